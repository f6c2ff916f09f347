package vm

import (
	"context"
	"time"
)

const (
	// tickFuel is how much fuel a guest gets at a time: a tenth of a millisecond's
	// work as a rule, and a few where little fuel pays for much. Nothing stops
	// compiled code in between, not Go's garbage collector either, which stops all
	// goroutines and waits for each.
	tickFuel = 25_000
	// fuelPerSecond is what JavaScript uses up in a second: as measured, loops and
	// calls 140 to 230 million, searching and filling up to 400, objects, maps and
	// JSON 50 to 110, awaits and the compiler 30.
	fuelPerSecond = 150_000_000
	// wallFactor times the CPU limit is when a slice is stopped by the clock: for
	// work that costs little fuel. A machine may be so much slower, or busy with
	// others, before a task suffers.
	wallFactor = 3
)

// maxCPU is where limits of computing end: three times more has to fit a duration.
const maxCPU = 10_000 * time.Hour

// usage is what a body has used.
type usage struct {
	fuel             int64
	lines, lineBytes int64
}

func (u usage) plus(v usage) usage {
	return usage{u.fuel + v.fuel, u.lines + v.lines, u.lineBytes + v.lineBytes}
}

func (u usage) cpu() time.Duration {
	return time.Duration(float64(u.fuel) / fuelPerSecond * float64(time.Second))
}

func fuelFor(d time.Duration) int64 { return int64(min(d, maxCPU).Seconds() * fuelPerSecond) }

// meter counts the fuel of a slice, and stops it.
type meter struct {
	ctx   context.Context // of the slice, which ends when it is done; nil while booting
	turns *turns
	turn  *turn
	fuel  int64 // used as of the last tick
	most  int64
	until time.Time
}

// startMeter begins a slice of a body that has used so much before.
func (s *sandbox) startMeter(ctx context.Context, e *Engine, t *turn, before usage) {
	l := e.options.Limits
	s.meter = meter{ctx: ctx, turns: &e.turns, turn: t, most: min(fuelFor(l.CPU), fuelFor(l.RunCPU)-before.fuel),
		until: time.Now().Add(wallFactor * min(l.CPU, maxCPU))}
	s.fuel.Set(tickFuel)
}

// used is how much fuel the slice has used so far.
func (s *sandbox) used() int64 { return s.meter.fuel + tickFuel - int64(int32(s.fuel.Get())) }

// tick is called by guest code whose fuel is used up. A panic unwinds it.
func (s *sandbox) tick() {
	m := &s.meter
	m.fuel = s.used()
	s.fuel.Set(tickFuel)
	if m.ctx == nil {
		return
	}
	now := time.Now()
	switch {
	case m.fuel > m.most, now.After(m.until):
		panic(errCPU)
	case m.ctx.Err() != nil:
		panic(context.Cause(m.ctx))
	}
	memory := uint64(s.memory.Size()) + uint64(s.slice.callBytes+s.slice.lineBytes)
	if memory == m.turn.memory && now.Sub(m.turn.began) < quantum {
		return
	}
	if err := m.turns.pause(m.ctx, m.turn, memory); err != nil {
		panic(err)
	}
	m.until = m.until.Add(time.Since(now)) // the clock stands still for who waits
}
