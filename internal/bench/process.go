package bench

// usage is what a node and its Postgres have used since they started.
type usage struct {
	server, postgres float64 // seconds of CPU
	hasPostgres      bool    // it is the node's child
	peak             int64   // bytes of memory of the node
}

// observation is the usage at a moment, and how many deliveries there were by then.
type observation struct {
	usage
	deliveries int64
}

// observe is nil if pid is 0 or tells nothing here.
func observe(pid int, l *ledger) *observation {
	if pid == 0 {
		return nil
	}
	u, ok := readUsage(pid)
	if !ok {
		return nil
	}
	return &observation{u, l.arrived.Load()}
}

// until is what was used between two observations; nil if one is missing or nothing was delivered.
func (o *observation) until(end *observation) *Process {
	if o == nil || end == nil || end.deliveries == o.deliveries {
		return nil
	}
	lots := float64(end.deliveries-o.deliveries) / 10_000
	p := &Process{ServerCPU: (end.server - o.server) / lots, PeakRSS: end.peak}
	if end.hasPostgres {
		cpu := (end.postgres - o.postgres) / lots
		p.PostgresCPU = &cpu
	}
	return p
}
