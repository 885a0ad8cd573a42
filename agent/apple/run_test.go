package apple

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/apns"
	"github.com/waxseal/waxseal/agent/device"
)

// A push makes a running device ask its server; one with another magic does not; the device ends when it is told to
// leave.
func TestRunByPush(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	push, err := apns.Serve(device.SystemClock{}, "127.0.0.1:0", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer push.Close() //nolint:errcheck // end of the test
	cfg := s.config(t)
	cfg.APNs = push.URL
	cfg.Clock = device.SystemClock{}
	d, err := Enroll(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the test
	target, magic := push.URL+"/3/device/"+d.state.PushToken, d.state.PushMagic
	polled := make(chan bool, 10)
	s.refuse = func(_ *http.Request, body []byte) (int, string, string) {
		if bytes.Contains(body, []byte(statusIdle)) {
			polled <- true
		}
		return 0, "", ""
	}
	done := make(chan error)
	go func() { done <- d.Run(t.Context(), 0) }()
	<-polled // the poll at the start
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, apns.PushCertFile), filepath.Join(dir, apns.PushKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	send := func(magic string) {
		resp, err := (&http.Client{Transport: transport}).Post(target, "application/json", bytes.NewBufferString(`{"mdm":"`+magic+`"}`))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", resp, err)
		}
		_ = resp.Body.Close()
	}
	send("another")
	s.send(dict{"RequestType": "RemoveProfile", "Identifier": "org.enrol"})
	send(magic)
	<-polled
	select {
	case err := <-done:
		if err != nil || d.Enrolled() {
			t.Errorf("%v, enrolled %v", err, d.Enrolled())
		}
	case <-time.After(20 * time.Second):
		t.Error("the device did not end")
	}
}

func TestRunNeedsAlarm(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	contains(t, d.Run(t.Context(), 0), "--apns", "--interval")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(ctx, time.Second); err != nil {
		t.Error(err)
	}
}
