package leak

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// piece is how much of a process's memory is read at once; pieces overlap by a window.
const piece = 1 << 20

// sentAnyway are the passwords that customWithKeys sends to the server, which refuses them: it has had them.
var sentAnyway = []string{"alice-2016: password", "alice-2019: password"}

// searchMemory looks through what the server has in memory, garbage included, for private keys and passwords that never belong
// there. Tokens that pass through the server are not looked for. The server's own keys must be found, or nothing would be.
func (h *house) searchMemory(when string, x hidden) {
	h.t.Helper()
	var wanted []secret
	for _, s := range x.secrets {
		if _, passes := x.travels[s.name]; !passes && !slices.Contains(sentAnyway, s.name) {
			wanted = append(wanted, s)
		}
	}
	const own = "the server's "
	for _, name := range serverKeys {
		wanted = append(wanted, keySecrets(h.t, own+name, readKey(h.t, h.path("server", name)))...)
	}
	found, size := newIndex(wanted).inMemory(h.t, h.processes["server"])
	if size == 0 {
		h.t.Logf("%s: the server's memory was not searched: this is no Linux, or a container that forbids it", when)
		return
	}
	seen := map[string]bool{}
	for _, name := range found {
		if of, ok := strings.CutPrefix(name, own); ok {
			of, _, _ = strings.Cut(of, ": ")
			seen[of] = true
			continue
		}
		h.t.Errorf("%s: the server has in its memory: %s", when, name)
	}
	for _, name := range []string{"tls-key.pem", "ra-key.pem"} { // the two that it works with all the time
		if !seen[name] {
			h.t.Errorf("%s: %s was not seen in %d bytes of the server's memory, so that it was not looked for rightly", when, name, size)
		}
	}
	h.t.Logf("%s: searched %d MB of memory for %d secrets; the server has %v", when, size>>20, len(wanted), sorted(seen))
}

// inMemory names the secrets that a process of ours has in memory that it may write to (proc(5), maps and mem), and says how
// much of it could be read.
func (x *index) inMemory(t testing.TB, pid int) (found []string, size int64) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Log(err)
		return nil, 0
	}
	defer maps.Close()
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Log(err)
		return nil, 0
	}
	defer memory.Close()
	all := map[string]bool{}
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var may string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &may); err != nil || !strings.HasPrefix(may, "rw") {
			continue
		}
		buf := make([]byte, piece+window)
		for at := from; at < to; at += piece {
			n, _ := memory.ReadAt(buf[:min(int64(len(buf)), to-at)], at) // what was unmapped meanwhile is not read
			size += int64(min(n, piece))
			for _, name := range x.find(buf[:n]) {
				all[name] = true
			}
		}
	}
	return sorted(all), size
}
