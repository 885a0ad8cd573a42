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
