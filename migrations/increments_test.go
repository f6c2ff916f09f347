package migrations_test

import "testing"

// TestHostsBeforeIncrements: the statements of hosts of the version before, which
// knew one row per body, find theirs, and cannot write into an increment.
func TestHostsBeforeIncrements(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	const body = `'00000000-0000-7000-8000-000000000001'`
	script(t, conn, `
		insert into amber.snapshots (stack_run_id, version, codec, engine, image, sequence, key_id, size, data)
		values (`+body+`, 1, 2, '', '', 4, 'k', 0, 'amb1\001');
		insert into amber.increments (stack_run_id, version, codec, engine, image, sequence, key_id, size, data)
		values (`+body+`, 2, 2, '', '', 5, 'k', 0, 'amb1\002'), (`+body+`, 2, 2, '', '', 6, 'k', 0, 'amb1\002')`)
	for sql, want := range map[string]int{
		`amber.snapshots where stack_run_id = ` + body:                                                             3,
		`only amber.snapshots where stack_run_id = ` + body:                                                        1,
		`amber.snapshots where stack_run_id = ` + body + ` and sequence = 6 and version = 2`:                       1, // which they refuse
		`amber.snapshots where stack_run_id = ` + body + ` and sequence = 4 and version = 1`:                       1,
		`(select from amber.snapshots where key_id <> 'new' order by sequence for update skip locked) as resealed`: 3,
	} {
		if n := count(t, conn, sql); n != want {
			t.Errorf("%s: %d rows, want %d", sql, n, want)
		}
	}
	for _, sql := range []string{
		`update amber.snapshots set key_id = 'new', data = 'amb1\001' where stack_run_id = ` + body, // as they seal anew
		`insert into amber.increments (stack_run_id, version, codec, engine, image, sequence, key_id, size, data)
			values (` + body + `, 1, 2, '', '', 7, 'k', 0, 'amb1\001')`,
	} {
		if code := failure(t, conn, sql); code != checkViolation {
			t.Errorf("%s: code %q, want %s", sql, code, checkViolation)
		}
	}
	exec(t, conn, `insert into amber.snapshots (stack_run_id, version, codec, engine, image, sequence, key_id, size, data)
		values (`+body+`, 1, 2, '', '', 7, 'k', 0, 'amb1\001')
		on conflict (stack_run_id) do update set sequence = excluded.sequence, data = excluded.data`)
	if n := count(t, conn, `only amber.snapshots where sequence = 7`); n != 1 {
		t.Errorf("%d key frames, want 1", n)
	}
}
