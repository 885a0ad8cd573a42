package bench_test

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/agent/windows"
	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/profiles"
)

// platform is a kind of device that is measured.
type platform struct {
	name string
	link profiles.Platform
	make func(ctx context.Context, o order) (device, error)
	calm int // the status that a device gets when there is nothing for it
	ways []way
}

// way is how a settled device says that it has nothing to say.
type way struct {
	column, prefix string // of the table, and of the benchmarks' names
	idle           func(*testing.B, *member) visit
}

func platforms() []platform {
	return []platform{
		{"iPhone", profiles.IOS, makeApple("ios", "18.1", "iPhone16,1"), http.StatusOK, []way{{"iPhone", "", says(deviceChannel)}}},
		{"Mac", profiles.MacOS, makeApple("macos", "15.1", "Mac15,12"), http.StatusOK, []way{{"Mac", "", says(deviceChannel, userChannel)}}},
		{"PC", profiles.Windows, makePC, http.StatusOK, []way{{"PC", "", says(deviceChannel)}, {"PC by TLS", "tls-", unsigned}}},
		{"Android", profiles.Android, makeAndroid, http.StatusNotModified, []way{{"Android", "", says(deviceChannel)}}},
	}
}

// device is a simulated one.
type device interface {
	// poll is one conversation; settled says that nothing came and nothing is to come.
	poll(ctx context.Context) (settled bool, failures []string, err error)
	Keychain() *keychain.Keychain
	Close() error
}

// order is what a device is made of. Making keys is the device's work and not measured.
type order struct {
	state     string
	link      api.Link
	ca        []byte
	key       func(int) (*rsa.PrivateKey, error)
	transport func(http.RoundTripper) http.RoundTripper
}

type phone struct{ *apple.Device }

func makeApple(system, version, model string) func(context.Context, order) (device, error) {
	return func(ctx context.Context, o order) (device, error) {
		d, err := apple.Enroll(ctx, apple.Config{State: o.state, Source: o.link.URL, Platform: system, OSVersion: version, Model: model, CA: o.ca,
			NewKey: o.key, Transport: o.transport})
		return phone{d}, err
	}
}

func (d phone) poll(ctx context.Context) (bool, []string, error) {
	r, err := d.Poll(ctx)
	return r.Commands == 0 && r.Pending == 0, r.Failures, err
}

type pc struct{ *windows.Device }

func makePC(ctx context.Context, o order) (device, error) {
	d, err := windows.Enroll(ctx, windows.Config{State: o.state, Source: o.link.URL, Secret: o.link.Secret, OSVersion: "10.0.22631.3007",
		Model: "Bench", CA: o.ca, Sign: true, NewKey: o.key, Transport: o.transport})
	return pc{d}, err
}

func (d pc) poll(ctx context.Context) (bool, []string, error) {
	r, err := d.Poll(ctx)
	return r.Commands == 0 && r.Pending == 0, r.Failures, err
}

type robot struct{ *android.Device }

func makeAndroid(ctx context.Context, o order) (device, error) {
	d, err := android.Enroll(ctx, android.Config{State: o.state, Source: o.link.URL, OSVersion: "15", CA: o.ca, NewKey: o.key, Transport: o.transport})
	return robot{d}, err
}

func (d robot) poll(ctx context.Context) (bool, []string, error) {
	r, err := d.Poll(ctx)
	return r.Commands+r.Changes+r.Pending == 0, r.Failures, err
}

// member is a device of a fleet with its last messages.
type member struct {
	device
	sent *recorder
	calm int
}

// enrol makes a device and enrols it by a link of its own.
func (h *house) enrol(ctx context.Context, p platform) (*member, error) {
	link, err := h.client.EnrollmentLink(ctx, api.LinkRequest{User: user, Platform: p.link})
	if err != nil {
		return nil, err
	}
	n, sent := h.next(), &recorder{}
	d, err := p.make(ctx, order{state: h.path(fmt.Sprintf("device-%d", n)), link: link, ca: h.ca,
		key:       func(int) (*rsa.PrivateKey, error) { return h.keys[n%len(h.keys)], nil },
		transport: func(next http.RoundTripper) http.RoundTripper { sent.next = next; return sent }})
	return &member{d, sent, p.calm}, err
}

// settle has a device fetch all that is meant for it: it polls until there is nothing more and nothing to wait for.
func (m *member) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pause := time.NewTicker(25 * time.Millisecond) // a connector is at work meanwhile
	defer pause.Stop()
	for {
		settled, failures, err := m.poll(ctx)
		switch {
		case err != nil:
			return err
		case len(failures) > 0:
			return errors.New(strings.Join(failures, "; "))
		case settled && m.sent.idle(deviceChannel)[0].status == m.calm:
			return nil
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keys is how many private keys the device has.
func (m *member) keys() (n int) {
	for _, item := range m.Keychain().Items() {
		if item.Key != nil {
			n++
		}
	}
	return n
}

// says is the last message on each of some channels.
func says(channels ...channel) func(*testing.B, *member) visit {
	return func(b *testing.B, m *member) visit {
		b.Helper()
		v := m.sent.idle(channels...)
		for i := range v {
			if v[i].status != m.calm {
				b.Fatalf("a settled device was answered %d to %s, want %d", v[i].status, v[i].uri, m.calm)
			}
		}
		return v
	}
}

// unsigned is the last message of a PC without its signature; TLS proves the PC instead.
func unsigned(b *testing.B, m *member) visit {
	b.Helper()
	v := m.sent.idle(deviceChannel)
	v[0].header = v[0].header.Clone()
	delete(v[0].header, "MDM-Signature")
	transport, ok := m.sent.next.(*http.Transport)
	if !ok || transport.TLSClientConfig.GetClientCertificate == nil {
		b.Fatal("the PC shows no certificate")
	}
	var err error
	if v[0].certificate, err = transport.TLSClientConfig.GetClientCertificate(&tls.CertificateRequestInfo{}); err != nil {
		b.Fatal(err)
	}
	return v
}
