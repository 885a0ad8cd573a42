package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/config"
	"github.com/waxseal/waxseal/server/internal/pki"
)

// running is a server in a goroutine.
type running struct {
	dir  string
	url  string
	log  *safeBuffer
	term *bytes.Buffer
	stop func() error
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// settings of a test; the folder has RSA keys already, which take long to make.
func settings(t *testing.T, dir string) config.Settings {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{pki.RAKeyFile, pki.SigningKeyFile} {
		key := testpki.Identity{Key: testpki.PoolKey(t, i)}
		if err := os.WriteFile(filepath.Join(dir, name), key.KeyPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config.Settings{Data: dir, Listen: "127.0.0.1:0", Organization: "Corp", AccessRights: config.DefaultAccessRights, Windows: config.Windows{RenewDays: config.DefaultWindowsRenewDays},
		ConnectorSilence: config.DefaultConnectorSilence, JobLease: config.DefaultJobLease}
}

// start runs a server until the test ends; it fails the test when the server does not come up.
func start(t *testing.T, s config.Settings) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{dir: s.Data, log: &safeBuffer{}, term: &bytes.Buffer{}}
	up, down := make(chan string, 1), make(chan error, 1)
	go func() {
		down <- Run(ctx, Config{Settings: s, Logger: slog.New(slog.NewJSONHandler(r.log, nil)), Terminal: r.term,
			Started: func(url string) { up <- url }, Version: "test"})
	}()
	var once sync.Once
	var result error
	r.stop = func() error {
		once.Do(func() { cancel(); result = <-down })
		return result
	}
	select {
	case r.url = <-up:
	case err := <-down:
		t.Fatalf("the server ended: %v", err)
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return r
}

func (r *running) client(t *testing.T) *api.Client {
	t.Helper()
	c, err := api.Open(r.url, filepath.Join(r.dir, "ca.pem"), filepath.Join(r.dir, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *running) get(t *testing.T, path string) (int, []byte) {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(r.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	resp, err := client.Get(r.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := start(t, settings(t, dir))
	address, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil || strings.TrimSpace(string(address)) != r.url {
		t.Errorf("address file %q, %v; serving at %s", address, err, r.url)
	}
	token, err := os.ReadFile(filepath.Join(dir, "admin-token"))
	if err != nil || !strings.Contains(r.term.String(), strings.TrimSpace(string(token))) {
		t.Errorf("token %v; terminal %q", err, r.term)
	}
	if strings.Contains(r.log.String(), strings.TrimSpace(string(token))) {
		t.Error("the log holds the admin token")
	}
	modes := map[string]os.FileMode{".": 0o700, "admin-token": 0o600, "ca-key.pem": 0o600, "tls-key.pem": 0o600, "ra-key.pem": 0o600, "profile-signing-key.pem": 0o600}
	for name, want := range modes {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// TestOneServerOnAFolder: a second one would take the first one's name away.
func TestOneServerOnAFolder(t *testing.T) {
	dir := t.TempDir()
	r := start(t, settings(t, dir))
	err := Run(t.Context(), Config{Settings: settings(t, dir)})
	if err == nil || !strings.Contains(err.Error(), "another waxseal-server runs on") {
		t.Errorf("the second: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	start(t, settings(t, dir))
}

// TestEveryAddressIsNoName: links would lead to [::].
func TestEveryAddressIsNoName(t *testing.T) {
	s := settings(t, t.TempDir())
	s.Listen = "0.0.0.0:0"
	if err := Run(t.Context(), Config{Settings: s}); err == nil || !strings.Contains(err.Error(), "--public-url") {
		t.Errorf("got %v", err)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	r := start(t, settings(t, t.TempDir()))
	if status, body := r.get(t, "/healthz"); status != 200 || string(body) != "ok\n" {
		t.Errorf("healthz: %d %q", status, body)
	}
	status, body := r.get(t, "/readyz")
	var ready readiness
	if err := json.Unmarshal(body, &ready); err != nil || status != 503 || ready.Ready {
		t.Fatalf("readyz: %d %s, %v", status, body, err)
	}
	names := ""
	for _, c := range ready.Checks {
		names += c.Name + " "
		if c.OK != (c.Name == "database") || (!c.OK && c.Detail == "") {
			t.Errorf("check %+v", c)
		}
	}
	if names != "database keySet connector raCertificate " || len(ready.Notes) != 1 || ready.Notes[0].Reason != "NoPushCertificate" {
		t.Errorf("got %s, notes %+v", names, ready.Notes)
	}
	if status, body := r.get(t, "/metrics"); status != 200 || !bytes.Contains(body, []byte(`waxseal_http_requests_total{class="2xx",method="GET",route="/healthz"} 1`)) {
		t.Errorf("metrics: %d %s", status, body)
	}
}

func TestAdminToken(t *testing.T) {
	r := start(t, settings(t, t.TempDir()))
	page, err := r.client(t).Users(t.Context(), api.PageQuery{})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("users: %+v, %v", page, err)
	}
	if status, _ := r.get(t, "/api/v1/users"); status != 401 {
		t.Errorf("without a token: %d", status)
	}
}

func TestRestartKeepsPortKeysAndValues(t *testing.T) {
	s := settings(t, t.TempDir())
	first := start(t, s)
	_, before := first.get(t, "/healthz")
	ca, _ := os.ReadFile(filepath.Join(s.Data, "ca.pem"))
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, s)
	_, after := second.get(t, "/healthz")
	again, _ := os.ReadFile(filepath.Join(s.Data, "ca.pem"))
	if first.url != second.url || !bytes.Equal(before, after) || !bytes.Equal(ca, again) {
		t.Errorf("%s became %s; same CA: %t", first.url, second.url, bytes.Equal(ca, again))
	}
	if second.term.Len() > 0 {
		t.Error("the token was shown again")
	}
}

func TestAnotherPublicURL(t *testing.T) {
	s := settings(t, t.TempDir())
	s.PublicURL = "https://mdm.example.com/"
	if err := start(t, s).stop(); err != nil {
		t.Fatal(err)
	}
	s.PublicURL = "" // the stored one holds
	if err := start(t, s).stop(); err != nil {
		t.Fatal(err)
	}
	s.PublicURL = "https://other.example.com"
	err := Run(t.Context(), Config{Settings: s})
	if err == nil || !strings.Contains(err.Error(), "--public-url https://mdm.example.com") || !strings.Contains(err.Error(), "--accept-new-public-url") {
		t.Errorf("got %v", err)
	}
	s.AcceptNewPublicURL = true
	if err := start(t, s).stop(); err != nil {
		t.Fatal(err)
	}
}

func TestBadStarts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	cases := []struct {
		name   string
		change func(*config.Settings)
		want   string
	}{
		{"address in use", func(s *config.Settings) { s.Listen = taken.Addr().String() }, "listening on"},
		{"no such certificate", func(s *config.Settings) { s.TLSCert, s.TLSKey = "none.pem", "none.key" }, "none.pem"},
		{"no such push certificate", func(s *config.Settings) { s.APNSCert, s.APNSKey = "none.pem", "none.key" }, "none.pem"},
		{"data is a file", func(s *config.Settings) { s.Data = filepath.Join(s.Data, "file") }, "data folder"},
		{"settings", func(s *config.Settings) { s.PublicURL = "ftp://x" }, "public-url"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := settings(t, t.TempDir())
			if err := os.WriteFile(filepath.Join(s.Data, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			tc.change(&s)
			if err := Run(t.Context(), Config{Settings: s}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDeviceListenerAsksForCertificates(t *testing.T) {
	s := settings(t, t.TempDir())
	device, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.DeviceListen, s.DeviceURL = device.Addr().String(), "https://"+device.Addr().String()
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	r := start(t, s)
	for address, want := range map[string]bool{s.DeviceListen: true, strings.TrimPrefix(r.url, "https://"): false} {
		asked := false
		config := &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &tls.Certificate{}, nil
		}}
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if asked != want {
			t.Errorf("%s: asked %t, want %t", address, asked, want)
		}
	}
}

func TestFixedValuesBind(t *testing.T) {
	stored := fixed{Namespace: "io.waxseal.00000000", Topic: "com.apple.mgmt.External.x", PublicURL: "https://a.test", Given: true,
		ServerURL: "https://a.test" + commandPath, CheckInURL: "https://a.test" + checkinPath, AccessRights: 3099}
	cases := []struct {
		name     string
		change   func(*config.Settings)
		enrolled bool
		want     string
	}{
		{"the same", func(*config.Settings) {}, true, ""},
		{"another URL without devices", func(s *config.Settings) { s.PublicURL = "https://b.test" }, false, "public-url"},
		{"a device URL with devices", func(s *config.Settings) { s.DeviceURL = "https://d.test" }, true, "public-url"},
		{"another URL, accepted", func(s *config.Settings) { s.PublicURL, s.AcceptNewPublicURL = "https://b.test", true }, true, ""},
		{"other rights without devices", func(s *config.Settings) { s.AccessRights = 1 }, false, ""},
		{"other rights with devices", func(s *config.Settings) { s.AccessRights = 1 }, true, "--access-rights 3099"},
		{"no URL: the stored one", func(s *config.Settings) { s.PublicURL = "" }, true, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := withDefaults(Config{Settings: config.Settings{PublicURL: "https://a.test/", AccessRights: 3099}})
			tc.change(&c.Settings)
			want, err := c.wanted(stored, "https://127.0.0.1:1")
			if err == nil {
				err = c.compare(stored, want, tc.enrolled)
			}
			if (tc.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v", err)
			}
			if want.Namespace != stored.Namespace || want.Topic != stored.Topic {
				t.Errorf("random values changed: %+v", want)
			}
		})
	}
}

func TestBoundAddressMayChangeUntilADeviceKnowsIt(t *testing.T) {
	stored := fixed{PublicURL: "https://127.0.0.1:1", ServerURL: "https://127.0.0.1:1" + commandPath, AccessRights: 3099}
	c := withDefaults(Config{Settings: config.Settings{AccessRights: 3099}})
	want, err := c.wanted(stored, "https://127.0.0.1:2")
	if err != nil || want.PublicURL != "https://127.0.0.1:2" || want.Given {
		t.Fatalf("%+v, %v", want, err)
	}
	if err := c.compare(stored, want, false); err != nil {
		t.Errorf("no device knows it: %v", err)
	}
	if err := c.compare(stored, want, true); err == nil {
		t.Error("devices know the former address")
	}
}
