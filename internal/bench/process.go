package bench

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
	deliveries int64
}

// observe looks at the node pid, if it is not 0, and at this process.
func observe(pid int, l *ledger) *observation {
	o := &observation{loader: ownCPU(), deliveries: l.arrived.Load()}
	if pid != 0 {
		o.node, o.hasNode = readUsage(pid)
	}
	return o
}

// until is what was used between two observations, per 10,000 deliveries; nil where one is missing or
// nothing was delivered.
func (o *observation) until(end *observation) (node *Process, loader *float64) {
	if o == nil || end == nil || end.deliveries == o.deliveries {
		return nil, nil
	}
	lots := float64(end.deliveries-o.deliveries) / 10_000
	own := (end.loader - o.loader) / lots
	if !o.hasNode || !end.hasNode {
		return nil, &own
	}
	p := &Process{ServerCPU: (end.node.server - o.node.server) / lots, PeakRSS: end.node.peak}
	if end.node.hasPostgres {
		cpu := (end.node.postgres - o.node.postgres) / lots
		p.PostgresCPU = &cpu
	}
	return p, &own
}
