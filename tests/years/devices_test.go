package years

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/agent/mail"
	"github.com/waxseal/waxseal/agent/windows"
	"github.com/waxseal/waxseal/internal/api"
)

// gadget is a simulated device in a folder of its name.
type gadget struct {
	*house
	name, platform, user string
	id                   string // the server's
}

// enrol brings the device in as its user does, and learns the server's name for it.
func (g *gadget) enrol() {
	g.t.Helper()
	out, _ := g.do("waxctl", "enroll", "link", "--user", g.user, "--platform", g.platform)
	link, secret, _ := strings.Cut(strings.TrimSpace(out), "\n")
	args := []string{"enroll", link, "--platform", g.platform, "--state", g.path(g.name), "--ca", g.path("server", "ca.pem")}
	if secret != "" {
		args = append(args, "--secret-file", g.write(g.name+".secret", secret+"\n"))
	}
	g.do("waxseal-agent", args...)
	var info struct{ UDID string }
	out, _ = g.do("waxseal-agent", "info", "--state", g.path(g.name))
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		g.t.Fatal(err)
	}
	all := ask[[]api.Device](g.house, "get", "devices")
	at := slices.IndexFunc(all, func(d api.Device) bool { return d.ExternalID == info.UDID })
	if at < 0 {
		g.t.Fatalf("the server does not know %s", g.name)
	}
	g.id = all[at].ID
}

// eyes are a look at the device with the story's time.
func (g *gadget) eyes() (mail.Device, error) {
	at := moment{g.now()}
	switch g.platform {
	case "windows":
		d, err := windows.View(windows.Config{State: g.path(g.name), Clock: at})
		if err != nil {
			return nil, err
		}
		return d.User(), nil
	case "android":
		d, err := android.View(android.Config{State: g.path(g.name), Clock: at})
		if err != nil {
			return nil, err
		}
		return d.App(""), nil
	}
	d, err := apple.View(apple.Config{State: g.path(g.name), Clock: at})
	if err != nil {
		return nil, err
	}
	if g.platform == device.PlatformMac {
		return d.User(), nil
	}
	return d, nil
}

// moment is a clock that stands: nobody sleeps while looking.
type moment struct{ at time.Time }

func (m moment) Now() time.Time                                   { return m.at }
func (m moment) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// program is the device's mail program.
func (g *gadget) program() *mail.Program {
	g.t.Helper()
	d, err := g.eyes()
	if err != nil {
		g.t.Fatalf("looking at %s: %v", g.name, err)
	}
	return mail.New(d, rand.Reader)
}

// signers are the keys with which the device may sign for its user now.
func (g *gadget) signers() []keychain.Item {
	g.t.Helper()
	d, err := g.eyes()
	if err != nil {
		g.t.Fatalf("looking at %s: %v", g.name, err)
	}
	return g.signing(d)
}

func (g *gadget) signing(d mail.Device) []keychain.Item {
	return slices.DeleteFunc(d.Keychain().Identities(), func(i keychain.Item) bool {
		return !apple.CanSign(i.Certificate) || !slices.Contains(apple.Addresses(i.Certificate), g.user) || g.now().After(i.Certificate.NotAfter)
	})
}

// own tells whether the device made the key itself.
func own(i keychain.Item) bool {
	return slices.Contains(i.Certificate.Subject.OrganizationalUnit, "Own key")
}

// sync lets the device talk to the server until all that it should have is there. What is asked for while it talks (a
// certificate, a rendered document) may come after its last poll, so that it talks again.
func (g *gadget) sync() error {
	for end := time.Now().Add(patience); ; {
		_, _, err := g.try("waxseal-agent", "sync", "--state", g.path(g.name))
		missing, explained := g.missing()
		if err == nil && explained == nil && len(missing) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not get what it should have: %v %v %v", g.name, missing, err, explained)
		}
	}
}

// missing are the documents that are not on the device as the server knows it.
func (g *gadget) missing() (missing []string, err error) {
	out, _, err := g.try("waxctl", "explain", "device", g.id, "-o", "json")
	if err != nil {
		return nil, err
	}
	var e struct {
		Documents []struct{ ID, Status, Reason string }
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		return nil, err
	}
	for _, d := range e.Documents {
		if d.Status != "verified" {
			missing = append(missing, d.ID+" "+d.Status+" "+d.Reason)
		}
	}
	return missing, nil
}

// syncAll lets all devices talk at once. Whoever looks at one meanwhile finds a key for each profile and the keys of old mail.
func (s *story) syncAll() {
	s.t.Helper()
	faults := make([]error, len(s.devices))
	var talking, watching sync.WaitGroup
	done := make(chan struct{})
	for i, g := range s.devices {
		oldest := s.archive[g.user][0]
		talking.Go(func() { faults[i] = g.sync() })
		if len(s.signed[g]) > 0 {
			watching.Go(func() { g.watch(oldest, done) })
		}
	}
	talking.Wait()
	close(done)
	watching.Wait()
	if err := errors.Join(faults...); err != nil {
		s.t.Fatal(err)
	}
}

// looks is how many looks in a row must miss something before it counts: a phone's state and keychain are different files,
// and a look between the writing of two sees neither the former key nor the next.
const looks = 3

// watch looks at the device until done.
func (g *gadget) watch(oldest letter, done <-chan struct{}) {
	ticker := time.NewTicker(2 * glance)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		var err error
		for range looks {
			if err = g.look(oldest); err == nil {
				break
			}
		}
		if err != nil {
			g.t.Errorf("%s while it renews: %v", g.name, err)
			return
		}
	}
}

func (g *gadget) look(oldest letter) error {
	d, err := g.eyes()
	if err != nil {
		return err
	}
	kinds := map[bool]bool{}
	for _, item := range g.signing(d) {
		kinds[own(item)] = true
	}
	if len(kinds) != 2 {
		return fmt.Errorf("it has keys of %d of two profiles", len(kinds))
	}
	_, _, err = mail.New(d, rand.Reader).Decrypt(oldest.sealed)
	return err
}
