package stack

// Usage is how much a process has in hand at this moment.
type Usage struct {
	Bodies, MostBodies int    // that run or wait for a VM
	Calls, MostCalls   int    // that are with their services
	CallsAtHand        int    // of services, those included
	Frames             int    // bodies in memory: those that run, and those that wait for calls which run here
	Room               []Room // memory besides VMs
}

// Room is memory that is for something.
type Room struct {
	Of          string
	Bytes, Most int64
}

// Usage is what the process has in hand.
func (p *Processor) Usage() Usage {
	p.mu.Lock()
	frames := len(p.frames)
	p.mu.Unlock()
	u := Usage{
		Bodies: int(p.bodies.used.Load() + p.starts.used.Load()), MostBodies: p.cfg.MaxBodies,
		Calls: p.calls.busy(), MostCalls: p.cfg.MaxCalls, CallsAtHand: int(p.queue.used.Load()),
		Frames: frames,
	}
	for _, of := range []struct {
		name string
		b    *budget
	}{{"replies", &p.room.replies}, {"outcomes", &p.room.outcomes}, {"snapshots", &p.room.snapshots}, {"resumed", &p.room.resumed}, {"arguments", &p.room.arguments}} {
		u.Room = append(u.Room, Room{of.name, of.b.taken(), of.b.most})
	}
	return u
}
