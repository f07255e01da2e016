package bench

import "context"

// usage is what a node and its Postgres have used since they started.
type usage struct {
	server, postgres float64 // seconds of CPU
	hasPostgres      bool    // it is the node's child
	peak             int64   // bytes of memory of the node
}

// clock is CPU time of the machine since it started.
type clock struct {
	all    int64 // of every CPU, idle time too
	stolen int64 // of it: the host let others run
}

// observation is what was used up to a moment, and how many deliveries there were by then.
type observation struct {
	node       usage
	hasNode    bool    // it runs on this machine, which tells
	loader     float64 // seconds of CPU of this process
	sql        float64 // statements that the node sent
	hasSQL     bool    // it says so
	machine    clock
	hasMachine bool
	deliveries int64
}

// observe looks at the node and at this process.
func (s *site) observe(ctx context.Context, t Target, l *ledger) *observation {
	o := &observation{deliveries: l.arrived.Load(), loader: ownCPU()}
	if t.PID != 0 {
		o.node, o.hasNode = readUsage(t.PID)
	}
	o.machine, o.hasMachine = readClock()
	o.sql, o.hasSQL = s.client.readMetric(ctx, t.AdminURL, sqlMetric)
	return o
}

// fill puts into r what was used between two observations; nothing where one is missing or nothing was
// delivered.
func (o *observation) fill(r *Report, end *observation) {
	if o == nil || end == nil || end.deliveries == o.deliveries {
		return
	}
	n := float64(end.deliveries - o.deliveries)
	lots := n / 10_000
	r.LoaderCPU = new((end.loader - o.loader) / lots)
	if o.hasSQL && end.hasSQL {
		r.SQLPerDelivery = new((end.sql - o.sql) / n)
	}
	if all := end.machine.all - o.machine.all; o.hasMachine && end.hasMachine && all > 0 {
		r.Stolen = new(float64(end.machine.stolen-o.machine.stolen) / float64(all))
	}
	if !o.hasNode || !end.hasNode {
		return
	}
	r.Process = &Process{ServerCPU: (end.node.server - o.node.server) / lots, PeakRSS: end.node.peak, PeakSince: PeakOfNode}
	if end.node.hasPostgres {
		r.Process.PostgresCPU = new((end.node.postgres - o.node.postgres) / lots)
	}
}
