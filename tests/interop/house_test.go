package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/testdata"
)

// house is a server behind a proxy, with a connector and an admin, each a real program.
type house struct {
	*folder
	bin   string
	proxy *proxy
	pin   string // fingerprint of the escrow root
}

// newHouse starts everything, with the profiles and users of sales.yaml.
func newHouse(t *testing.T) *house {
	t.Helper()
	return newHouseWith(t, func(*house) {})
}

// newHouseWith does something with the connector's keyring before the connector runs.
func newHouseWith(t *testing.T, equip func(*house)) *house {
	t.Helper()
	h := &house{folder: newFolder(t), bin: programs(t)}
	if err := os.CopyFS(h.path("inputs"), testdata.FS); err != nil {
		t.Fatal(err)
	}
	h.proxy = newProxy(t, h.folder)
	h.startServer()
	h.initConnector()
	equip(h)
	h.start("connector", h.program("waxseal-connector"), "run", "--keyring", h.path("connector"))
	h.waxctl("apply", "-f", h.path("inputs", "examples", "sales.yaml"))
	return h
}

func (h *house) program(name string) string { return filepath.Join(h.bin, name) }

func (h *house) startServer() {
	h.t.Helper()
	h.start("server", h.program("waxseal-server"), "--data", h.path("server"), "--listen", "127.0.0.1:0", "--public-url", h.proxy.URL,
		"--organization", "Example Corp", "--windows-message-signing")
	var bound string
	h.wait("the start of the server", func() bool {
		raw, err := os.ReadFile(h.path("server", "address"))
		if bound = strings.TrimSpace(string(raw)); err != nil || bound == "" {
			return false
		}
		client, err := api.Open(bound, h.path("server", "ca.pem"), h.path("server", "admin-token"))
		if err != nil {
			return false
		}
		_, err = client.Users(h.t.Context(), api.PageQuery{})
		return err == nil
	})
	h.proxy.forward(h.t, bound, h.path("server", "ca.pem"))
}

func (h *house) initConnector() {
	h.t.Helper()
	token := h.write("connector-token", []byte(h.waxctl("connector", "token")+"\n"))
	root := h.must(nil, h.program("waxseal-connector"), "init", "--keyring", h.path("connector"), "--server", h.proxy.URL, "--ca", h.proxy.CA,
		"--token-file", token, "--ca-key-bits", "2048")
	h.pin = strings.TrimSpace(string(root))
}

// waxctl runs a command that has to succeed, and gives its value.
func (h *house) waxctl(args ...string) string {
	h.t.Helper()
	return strings.TrimSpace(string(h.must(nil, h.program("waxctl"), h.asAdmin(args...)...)))
}

// asAdmin are the arguments of waxctl for a command.
func (h *house) asAdmin(args ...string) []string {
	connection := []string{"--server", h.proxy.URL, "--ca", h.proxy.CA, "--token-file", h.path("server", "admin-token"), "--state-dir", h.path("admin")}
	if h.pin != "" {
		connection = append(connection, "--escrow-root", h.pin)
	}
	return append(connection, args...)
}

// importPFX imports a file of testdata for Alice.
func (h *house) importPFX(name string) {
	h.t.Helper()
	h.waxctl("import", "pfx", h.path("inputs", "pfx", name+".pfx"), "--user", "alice@corp.test", "--password-file", h.path("inputs", "pfx", name+".password"))
}

func (h *house) link() string {
	h.t.Helper()
	return h.waxctl("enroll", "link", "--user", "alice@corp.test")
}

// agent runs a command of the simulated device in a folder.
func (h *house) agent(device string, stdin []byte, args ...string) []byte {
	h.t.Helper()
	return h.must(stdin, h.program("waxseal-agent"), append(args, "--state", h.path(device))...)
}

// within is the same house for a subtest.
func (h *house) within(t *testing.T) *house {
	out := *h
	out.folder = h.with(t)
	return &out
}
