package bench

import "context"

// usage is what a node and its Postgres have used since they started.
type usage struct {
	server, postgres float64 // seconds of CPU
	hasPostgres      bool    // it is the node's child
	peak             int64   // bytes of memory of the node
}

// observation is what was used up to a moment, and how many deliveries there were by then.
type observation struct {
	node       usage
	hasNode    bool    // it runs on this machine, which tells
	loader     float64 // seconds of CPU of this process
	sql        float64 // statements that the node sent
	hasSQL     bool    // it says so
	deliveries int64
}

// observe looks at the node and at this process.
func (s *site) observe(ctx context.Context, t Target, l *ledger) *observation {
	o := &observation{deliveries: l.arrived.Load(), loader: ownCPU()}
	if t.PID != 0 {
		o.node, o.hasNode = readUsage(t.PID)
	}
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
	if !o.hasNode || !end.hasNode {
		return
	}
	r.Process = &Process{ServerCPU: (end.node.server - o.node.server) / lots, PeakRSS: end.node.peak, PeakSince: PeakOfNode}
	if end.node.hasPostgres {
		r.Process.PostgresCPU = new((end.node.postgres - o.node.postgres) / lots)
	}
}
