package journal

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func open(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func TestLastEntryCountsAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	for _, v := range []string{"one", "two", strings.Repeat("long", 40000)} {
		if err := j.Put("a", v); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Put("b", "other"); err != nil {
		t.Fatal(err)
	}
	for _, j := range []*Journal{j, open(t, path)} {
		var got string
		if found, err := j.Get("a", &got); err != nil || !found || !strings.HasPrefix(got, "longlong") {
			t.Errorf("got %.20q, %v, %v", got, found, err)
		}
		if found, err := j.Get("c", &got); found || err != nil {
			t.Errorf("a key that nobody put: %v, %v", found, err)
		}
		if j.Len() != 2 {
			t.Errorf("%d keys", j.Len())
		}
	}
}

func TestTornLineIsDropped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	if err := open(t, path).Put("a", 1); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole, `{"key":"b","val`...), 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, path)
	var n int
	if found, _ := j.Get("b", &n); found {
		t.Error("half an entry counts")
	}
	if err := j.Put("c", 3); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	if found, err := again.Get("c", &n); !found || err != nil || n != 3 || again.Len() != 2 {
		t.Errorf("after the torn line: %v, %v, %d", found, err, n)
	}
}

func TestDamagedMiddleIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	if err := os.WriteFile(path, []byte("{\"key\":\"a\"}\nnonsense\n{\"key\":\"b\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "j"))
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			key := string(rune('a' + i))
			for n := range 5 {
				if err := j.Put(key, n); err != nil {
					t.Error(err)
				}
				var got int
				if found, err := j.Get(key, &got); !found || err != nil || got != n {
					t.Errorf("%s: got %d, %v, %v", key, got, found, err)
				}
			}
		})
	}
	wait.Wait()
}

func TestCompactKeepsWhatCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	for _, v := range []string{"first secret", "second secret", "harmless"} {
		if err := j.Put("a", v); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Put("b", 7); err != nil {
		t.Fatal(err)
	}
	if err := j.Compact(); err != nil {
		t.Fatal(err)
	}
	if err := j.Put("c", "after"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(data), "secret") || strings.Count(string(data), "\n") != 3 {
		t.Errorf("%v, the file holds:\n%s", err, data)
	}
	for _, j := range []*Journal{j, open(t, path)} {
		var a, c string
		var b int
		for key, into := range map[string]any{"a": &a, "b": &b, "c": &c} {
			if found, err := j.Get(key, into); !found || err != nil {
				t.Errorf("%s: %v, %v", key, found, err)
			}
		}
		if a != "harmless" || b != 7 || c != "after" {
			t.Errorf("got %q, %d, %q", a, b, c)
		}
	}
}

// TestCrashWithinCompact starts from each state that a crash can leave: the new file half written, written whole but not
// renamed, and the renamed one.
func TestCrashWithinCompact(t *testing.T) {
	const old = `{"key":"a","value":"secret"}` + "\n" + `{"key":"b","value":"kept"}` + "\n" + `{"key":"a","value":"new"}` + "\n"
	const compacted = `{"key":"b","value":"kept"}` + "\n" + `{"key":"a","value":"new"}` + "\n"
	cases := map[string][2]string{
		"before":       {old, ""},
		"half written": {old, compacted[:30]},
		"not renamed":  {old, compacted},
		"renamed":      {compacted, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			for file, content := range map[string]string{path: c[0], path + compactSuffix: c[1]} {
				if content == "" {
					continue
				}
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			j := open(t, path)
			var a, b string
			_, err1 := j.Get("a", &a)
			_, err2 := j.Get("b", &b)
			if a != "new" || b != "kept" || err1 != nil || err2 != nil {
				t.Errorf("got %q, %q, %v, %v", a, b, err1, err2)
			}
			if data, err := os.ReadFile(path); err != nil || string(data) != compacted {
				t.Errorf("%v, the file holds:\n%s", err, data)
			}
			if _, err := os.Stat(path + compactSuffix); !os.IsNotExist(err) {
				t.Errorf("the half-made file is still there: %v", err)
			}
		})
	}
}

func TestPutCompactsByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	for range 5 {
		if err := j.Put("a", strings.Repeat("x", 400<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 2*minDead {
		t.Errorf("%v, %d bytes for one entry", err, info.Size())
	}
}

func TestBrokenJournalTakesNothing(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "j"))
	_ = j.file.Close()
	if j.Put("a", 1) == nil || j.broken == nil {
		t.Fatal("a closed file took an entry")
	}
	if err := j.Put("a", 1); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("got %v", err)
	}
	if len(j.Keys("")) != 0 {
		t.Error("an entry that is not on the disk counts")
	}
}
