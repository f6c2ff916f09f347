package vm

// VMs is [Engine.Pool] when those are there that are being made in advance.
func (e *Engine) VMs() (live, idle int, memory uint64) {
	e.pool.refills.Wait()
	return e.Pool()
}
