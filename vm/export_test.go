package vm

// VMs returns how many VMs there are, and how many of them are idle with how
// many bytes of memory. It waits for those that are being made in advance.
func (e *Engine) VMs() (live, idle int, memory uint64) {
	e.pool.refills.Wait()
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	return int(e.pool.live.Load()), len(e.pool.idle), e.pool.size
}
