package leak

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/escrow"
)

// TestAServerThatAltersTheKeySetGetsNoRecord: whom to seal to is never the server's word. Here the answer to GET key-set is
// altered on its way, which is what a server taken over would do, and the real waxctl imports.
func TestAServerThatAltersTheKeySetGetsNoRecord(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.firstConnector()
	h.mustWaxctl("apply", "-f", h.path("inputs", "examples", "sales.yaml"))
	old := h.keySet()
	h.imports("alice-2016")
	h.secondConnector()
	now := h.keySet()
	h.imports("alice-2019") // the serial of now has been seen

	for name, c := range alterations(t, old, now) {
		for how, pin := range map[string]string{"pin given": h.pin, "pin kept": ""} {
			t.Run(name+", "+how, func(t *testing.T) {
				with := *h
				with.t, with.pin = t, pin
				with.refusesToImport(c)
			})
		}
	}

	h.proxy.setAlter(nil)
	h.imports("alice-2024")
	if n := h.records(); n != 3 {
		t.Errorf("the server has %d records, want the 3 that were imported under the true key set", n)
	}
}

// alteration is one dishonest answer, and what waxctl says to it.
type alteration struct {
	status int
	body   any
	says   string
}

func alterations(t *testing.T, old, now escrow.SignedKeySet) map[string]alteration {
	t.Helper()
	var set escrow.KeySet
	if err := json.Unmarshal(now.KeySet, &set); err != nil {
		t.Fatal(err)
	}
	member, root := stranger(t)
	swapped := escrow.KeySet{Serial: set.Serial + 1, Members: []escrow.Member{member}}
	foreign, err := escrow.SignKeySet(swapped, root)
	if err != nil {
		t.Fatal(err)
	}
	posing := foreign
	posing.Root = now.Root // the true root's name on the stranger's signature
	with := func(members ...escrow.Member) escrow.SignedKeySet {
		raw, err := json.Marshal(escrow.KeySet{Serial: set.Serial, Members: members})
		if err != nil {
			t.Fatal(err)
		}
		return escrow.SignedKeySet{KeySet: raw, Root: now.Root, Signature: now.Signature}
	}
	return map[string]alteration{
		"swapped for a stranger's, well signed":     {200, foreign, "is signed by escrow root"},
		"swapped, under the true root's name":       {200, posing, "signature does not fit"},
		"a stranger added":                          {200, with(append(set.Members[:len(set.Members):len(set.Members)], member)...), "signature does not fit"},
		"a stranger in place of a connector":        {200, with(append([]escrow.Member{member}, set.Members[1:]...)...), "signature does not fit"},
		"a member dropped":                          {200, with(set.Members[1:]...), "signature does not fit"},
		"rolled back to before the second one came": {200, old, "serial"},
		"dropped":          {404, map[string]any{"status": 404, "title": "Not Found", "detail": "there is no key set"}, "no connector"},
		"empty":            {200, map[string]any{}, "key set"},
		"not signed":       {200, escrow.SignedKeySet{KeySet: now.KeySet, Root: now.Root}, "signature does not fit"},
		"signed by nobody": {200, escrow.SignedKeySet{KeySet: now.KeySet, Root: now.Root, Signature: bytes.Repeat([]byte{1}, 64)}, "signature does not fit"},
	}
}

// stranger has keys of its own and would like to be sealed to.
func stranger(t *testing.T) (escrow.Member, ed25519.PrivateKey) {
	t.Helper()
	key, err := escrow.GenerateKey(rand.Reader, escrow.SuiteHybrid)
	if err != nil {
		t.Fatal(err)
	}
	_, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key.Member(escrow.MemberConnector, "connector"), root
}

func (h *house) refusesToImport(c alteration) {
	t := h.t
	t.Helper()
	body, err := json.Marshal(c.body)
	if err != nil {
		t.Fatal(err)
	}
	altered := 0
	h.proxy.setAlter(func(r *http.Request, status int, was []byte) (int, []byte) {
		if r.URL.Path != api.BasePath+"/key-set" {
			return status, was
		}
		altered++
		return c.status, body
	})
	_, stderr, code := h.importPFX("alice-2024", "alice@corp.test")
	h.proxy.setAlter(nil)
	if altered == 0 {
		t.Fatal("waxctl did not ask for the key set")
	}
	if code == 0 || !strings.Contains(stderr, c.says) {
		t.Errorf("waxctl ended with %d and said %q, want something about %q", code, stderr, c.says)
	}
	if n := count(h.proxy.taken(t), "POST", api.BasePath+"/escrow", "request", ""); n != 2 {
		t.Errorf("%d records were sent in all, want the 2 from before", n)
	}
	if n := h.records(); n != 2 {
		t.Errorf("the server has %d records, want the 2 from before", n)
	}
}

func (h *house) keySet() escrow.SignedKeySet {
	h.t.Helper()
	signed, err := h.client.KeySet(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return signed
}

func (h *house) imports(name string) {
	h.t.Helper()
	if _, stderr, code := h.importPFX(name, "alice@corp.test"); code != 0 {
		h.t.Fatalf("import of %s: %s\n%s", name, stderr, h.tail())
	}
}

func (h *house) records() int {
	h.t.Helper()
	list, err := api.All(h.t.Context(), h.client.EscrowRecords)
	if err != nil {
		h.t.Fatal(err)
	}
	return len(list)
}
