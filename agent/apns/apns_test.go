package apns

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/device"
)

const token = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func start(t *testing.T) (*Running, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := Serve(device.SystemClock{}, "127.0.0.1:0", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, dir
}

// client is an MDM server's, configured from the folder alone.
func client(t *testing.T, dir string, withCert bool) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(pem)
	if withCert {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, PushCertFile), filepath.Join(dir, PushKeyFile))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(Topic(pair.Leaf), "com.apple.mgmt.External.") {
			t.Errorf("topic %q", Topic(pair.Leaf))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func push(t *testing.T, c *http.Client, url, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // end of the test
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var reason struct {
		Reason    string
		Timestamp int64
	}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &reason); err != nil {
			t.Fatal(err)
		}
	}
	if resp.StatusCode == http.StatusGone && reason.Timestamp == 0 {
		t.Error("410 without a timestamp")
	}
	return resp.StatusCode, reason.Reason
}

func TestPush(t *testing.T) {
	r, dir := start(t)
	gone := strings.Repeat("ab", 32)
	bad := strings.Repeat("cd", 32)
	r.Refuse(gone, ReasonUnregistered)
	r.Refuse(bad, ReasonBadToken)
	to := r.URL + "/3/device/"
	tests := map[string]struct {
		cert   bool
		url    string
		body   string
		header []string
		status int
		reason string
	}{
		"good":           {true, to + token, `{"mdm":"magic"}`, []string{"apns-push-type", "mdm"}, 200, ""},
		"no certificate": {false, to + token, `{"mdm":"magic"}`, nil, 403, "MissingProviderToken"},
		"other topic":    {true, to + token, `{"mdm":"magic"}`, []string{"apns-topic", "com.apple.mgmt.x"}, 400, "BadTopic"},
		"push type":      {true, to + token, `{"mdm":"magic"}`, []string{"apns-push-type", "alert"}, 400, "InvalidPushType"},
		"with aps":       {true, to + token, `{"mdm":"magic","aps":""}`, nil, 400, "BadMessage"},
		"empty":          {true, to + token, ``, nil, 400, "PayloadEmpty"},
		"too large":      {true, to + token, strings.Repeat("x", 5000), nil, 413, "PayloadTooLarge"},
		"token":          {true, to + "zz", `{"mdm":"magic"}`, nil, 400, "BadDeviceToken"},
		"gone":           {true, to + gone, `{"mdm":"magic"}`, nil, 410, "Unregistered"},
		"bad token":      {true, to + bad, `{"mdm":"magic"}`, nil, 400, "BadDeviceToken"},
	}
	for name, tt := range tests {
		status, reason := push(t, client(t, dir, tt.cert), tt.url, tt.body, tt.header...)
		if status != tt.status || reason != tt.reason {
			t.Errorf("%s: %d %q", name, status, reason)
		}
	}
	if got := r.Pushes(); len(got) != 1 || got[0].Token != token || got[0].Magic != "magic" {
		t.Errorf("pushes %+v", got)
	}
	raw, err := os.ReadFile(filepath.Join(dir, PushesFile))
	if err != nil || bytes.Count(raw, []byte("\n")) != 1 {
		t.Errorf("%s: %q %v", PushesFile, raw, err)
	}
}

// A device that waits is told at once; one that was away gets the last push, once.
func TestPoke(t *testing.T) {
	s := New(device.SystemClock{}, nil)
	s.accept(Push{Token: token, Magic: "first"})
	s.accept(Push{Token: token, Magic: "second"})
	p, err := s.next(t.Context(), token)
	if err != nil || p.Magic != "second" {
		t.Errorf("%+v %v", p, err)
	}
	got := make(chan Push)
	go func() {
		p, _ := s.next(t.Context(), token) //nolint:errcheck // the push tells
		got <- p
	}()
	s.accept(Push{Token: token, Magic: "third"})
	if p := <-got; p.Magic != "third" {
		t.Errorf("%+v", p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.next(ctx, token); err == nil {
		t.Error("a push came twice")
	}
}

// A restart keeps the certificates, so that servers need no new configuration.
func TestRestart(t *testing.T) {
	r, dir := start(t)
	before, err := os.ReadFile(filepath.Join(dir, PushCertFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Serve(device.SystemClock{}, "127.0.0.1:0", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	after, err := os.ReadFile(filepath.Join(dir, PushCertFile))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the push certificate changed: %v", err)
	}
	if status, _ := push(t, client(t, dir, true), again.URL+"/3/device/"+token, `{"mdm":"x"}`); status != 200 {
		t.Errorf("status %d", status)
	}
}
