package vm

import (
	"context"
	"log/slog"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// WASI's error numbers that the guest is answered with.
const (
	wasiSuccess = 0
	wasiBadFile = 8
	wasiFault   = 21
	wasiNoSys   = 52
)

// bootTime is what the clock shows while an image is booted, so that two boots
// give the same bytes.
var bootTime = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// instantiateWASI gives the engine the system interface it was linked against
// with nothing behind it but a clock: no files, no environment, no sleep.
func instantiateWASI(ctx context.Context, r wazero.Runtime, log *slog.Logger) error {
	i32, i64 := api.ValueTypeI32, api.ValueTypeI64
	params := func(types ...api.ValueType) []api.ValueType { return types }
	errno := []api.ValueType{i32}
	b := r.NewHostModuleBuilder("wasi_snapshot_preview1")
	export := func(name string, in, out []api.ValueType, f api.GoModuleFunc) {
		b = b.NewFunctionBuilder().WithGoModuleFunction(f, in, out).Export(name)
	}
	export("clock_time_get", params(i32, i64, i32), errno, clockTimeGet)
	export("fd_write", params(i32, i32, i32, i32), errno, fdWrite(log))
	export("proc_exit", params(i32), nil, func(context.Context, api.Module, []uint64) { panic(errGuestExit) })
	for _, name := range []string{"args_sizes_get", "environ_sizes_get"} {
		export(name, params(i32, i32), errno, noStrings)
	}
	for name, in := range map[string][]api.ValueType{
		"args_get": params(i32, i32), "environ_get": params(i32, i32),
	} {
		export(name, in, errno, answer(wasiSuccess))
	}
	for name, in := range map[string][]api.ValueType{
		"fd_close": params(i32), "fd_fdstat_get": params(i32, i32), "fd_fdstat_set_flags": params(i32, i32),
		"fd_prestat_get": params(i32, i32), "fd_prestat_dir_name": params(i32, i32, i32),
		"fd_read": params(i32, i32, i32, i32), "fd_readdir": params(i32, i32, i32, i64, i32), "fd_seek": params(i32, i64, i32, i32),
	} {
		export(name, in, errno, answer(wasiBadFile))
	}
	for name, in := range map[string][]api.ValueType{
		"path_create_directory": params(i32, i32, i32), "path_filestat_get": params(i32, i32, i32, i32, i32),
		"path_filestat_set_times": params(i32, i32, i32, i32, i64, i64, i32),
		"path_open":               params(i32, i32, i32, i32, i32, i64, i64, i32, i32), "path_remove_directory": params(i32, i32, i32),
		"path_rename": params(i32, i32, i32, i32, i32, i32), "path_unlink_file": params(i32, i32, i32),
		"poll_oneoff": params(i32, i32, i32, i32),
	} {
		export(name, in, errno, answer(wasiNoSys))
	}
	_, err := b.Instantiate(ctx)
	return err
}

func answer(errno uint64) api.GoModuleFunc {
	return func(_ context.Context, _ api.Module, stack []uint64) { stack[0] = errno }
}

// noStrings says that there are no arguments and no environment variables.
func noStrings(_ context.Context, m api.Module, stack []uint64) {
	mem := m.Memory()
	if !mem.WriteUint32Le(uint32(stack[0]), 0) || !mem.WriteUint32Le(uint32(stack[1]), 0) {
		stack[0] = wasiFault
		return
	}
	stack[0] = wasiSuccess
}

// clockTimeGet shows the real time, whichever clock is asked for: a monotonic
// clock would jump wherever a task resumes in another process.
func clockTimeGet(ctx context.Context, m api.Module, stack []uint64) {
	at := bootTime
	if s, ok := ctx.Value(sandboxKey{}).(*sandbox); ok && s.slice != nil {
		at = time.Now()
	}
	if !m.Memory().WriteUint64Le(uint32(stack[2]), uint64(at.UnixNano())) {
		stack[0] = wasiFault
		return
	}
	stack[0] = wasiSuccess
}

// fdWrite swallows what the engine prints about itself.
func fdWrite(log *slog.Logger) api.GoModuleFunc {
	return func(ctx context.Context, m api.Module, stack []uint64) {
		mem := m.Memory()
		list, count, total := uint32(stack[1]), uint32(stack[2]), uint32(0)
		for i := uint32(0); i < min(count, 16); i++ {
			at, ok1 := mem.ReadUint32Le(list + 8*i)
			size, ok2 := mem.ReadUint32Le(list + 8*i + 4)
			text, ok3 := mem.Read(at, size)
			if !ok1 || !ok2 || !ok3 {
				stack[0] = wasiFault
				return
			}
			total += size
			log.DebugContext(ctx, "engine output", "text", string(text[:min(len(text), 1024)]))
		}
		if !mem.WriteUint32Le(uint32(stack[3]), total) {
			stack[0] = wasiFault
			return
		}
		stack[0] = wasiSuccess
	}
}
