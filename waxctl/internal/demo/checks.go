package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/api"
)

// keychainItem is one line of `waxseal-agent keychain list --json`.
type keychainItem struct {
	SHA256        string    `json:"sha256"`
	Subject       string    `json:"subject"`
	Addresses     []string  `json:"addresses"`
	NotBefore     time.Time `json:"notBefore"`
	NotAfter      time.Time `json:"notAfter"`
	HasPrivateKey bool      `json:"hasPrivateKey"`
	Profile       string    `json:"profile"`
}

func (s *story) keychain(ctx context.Context, device string) ([]keychainItem, error) {
	out, err := s.agent(ctx, nil, "keychain", "list", "--json", "--state", s.path(device))
	if err != nil {
		return nil, err
	}
	var items []keychainItem
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var i keychainItem
		if err := dec.Decode(&i); err != nil {
			return nil, fmt.Errorf("read the keychain of %s: %w", device, err)
		}
		items = append(items, i)
	}
	s.keys[device] = items
	return items, nil
}

// encryption are the identities of the Old Corp CA, signing the ones that the connector issued for mail.
func encryption(items []keychainItem) []string {
	return pick(items, func(i keychainItem) bool { return strings.Contains(i.Subject, "Old Corp") })
}

func signing(items []keychainItem) []string {
	return pick(items, func(i keychainItem) bool { return len(i.Addresses) > 0 && !strings.Contains(i.Subject, "Old Corp") })
}

func pick(items []keychainItem, want func(keychainItem) bool) []string {
	var out []string
	for _, i := range items {
		if i.HasPrivateKey && want(i) {
			out = append(out, i.SHA256)
		}
	}
	slices.Sort(out)
	return out
}

func (s *story) readOldMail(ctx context.Context, device string, messages ...string) (string, error) {
	for _, m := range messages {
		if err := s.opens(ctx, device, m); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d messages open to exactly what was written", len(messages)), nil
}

func (s *story) opens(ctx context.Context, device, message string) error {
	eml, err := os.ReadFile(s.input("mail", message+".eml"))
	if err != nil {
		return err
	}
	want, err := os.ReadFile(s.input("mail", message+".txt"))
	if err != nil {
		return err
	}
	got, err := s.agent(ctx, bytes.NewReader(eml), "mail", "decrypt", "--state", s.path(device))
	if err != nil {
		return fmt.Errorf("open %s: %w", message, err)
	}
	return must(body(got) == body(string(want)), "%s opened to %q, want %q", message, got, want)
}

// body is the text of a message, whatever its line ends.
func body(message string) string {
	message = strings.ReplaceAll(message, "\r\n", "\n")
	if _, text, ok := strings.Cut(message, "\n\n"); ok {
		message = text
	}
	return strings.TrimSpace(message)
}

func (s *story) compareDevices(ctx context.Context) (string, error) {
	phone, err := s.keychain(ctx, "iphone")
	if err != nil {
		return "", err
	}
	pad, err := s.keychain(ctx, "ipad")
	if err != nil {
		return "", err
	}
	if err := must(slices.Equal(encryption(phone), encryption(pad)), "encryption identities differ"); err != nil {
		return "", err
	}
	return "fingerprints compared", must(!slices.Equal(signing(phone), signing(pad)), "both devices sign with one certificate")
}

const letter = "From: Alice Example <alice@corp.test>\r\nTo: Alice Example <alice@corp.test>\r\nSubject: %s\r\n" +
	"Date: Tue, 24 Nov 2026 09:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n"

func (s *story) exchange(ctx context.Context) (string, error) {
	signed, err := s.agent(ctx, strings.NewReader(fmt.Sprintf(letter, "Hello", "From my phone.")), "mail", "sign", "--state", s.path("iphone"))
	if err != nil {
		return "", err
	}
	if _, err := s.agent(ctx, strings.NewReader(signed), "mail", "verify", "--state", s.path("ipad")); err != nil {
		return "", err
	}
	tampered := strings.Replace(signed, "From my phone.", "From my bank.", 1)
	if _, err := s.agent(ctx, strings.NewReader(tampered), "mail", "verify", "--state", s.path("ipad")); err == nil {
		return "", fmt.Errorf("a changed message verified")
	}
	sealed, err := s.agent(ctx, strings.NewReader(fmt.Sprintf(letter, "Re: Hello", "For your eyes.")), "mail", "encrypt", "--state", s.path("ipad"))
	if err != nil {
		return "", err
	}
	opened, err := s.agent(ctx, strings.NewReader(sealed), "mail", "decrypt", "--state", s.path("iphone"))
	if err != nil {
		return "", err
	}
	return "signature checked, a changed copy refused, the answer opened", must(strings.Contains(opened, "For your eyes.") && !strings.Contains(sealed, "For your eyes."), "the answer opened to %q", opened)
}

func (s *story) reuseLink(ctx context.Context) (string, error) {
	link, err := os.ReadFile(s.path("iphone-link"))
	if err != nil {
		return "", err
	}
	out, err := s.proc.run(ctx, nil, "waxseal-agent", "enroll", string(link), "--platform", "ios", "--state", s.path("thief"), "--ca", s.path("server", "ca.pem"))
	if err != nil {
		return "", err
	}
	return "another device with the same link was refused", must(out.Code != 0, "a spent link enrolled another device")
}

// rollover: the iPhone polls; the iPad sleeps and is woken by a push.
func (s *story) rollover(ctx context.Context) (string, error) {
	err := s.proc.during("waxseal-agent", "ipad-run", []string{"run", "--state", s.path("ipad"), "--interval", "0"}, func() error {
		if _, stderr, code := s.importPFX(ctx, "alice-next", "alice@corp.test", "alice-next"); code != 0 {
			return fmt.Errorf("import alice-next: %s", stderr)
		}
		if err := s.sync(ctx, "iphone"); err != nil {
			return err
		}
		return waitFor(ctx, "the wake-up of the iPad by push", func() bool { return s.installed(ctx, "iPad", len(imported)+1) })
	})
	if err != nil {
		return "", err
	}
	if err := s.sync(ctx, "mac"); err != nil {
		return "", err
	}
	for _, device := range []string{"iphone", "ipad", "mac"} {
		if err := s.rolledOver(ctx, device); err != nil {
			return "", err
		}
	}
	return "mail to the new key opens, all older mail still does; the iPad was woken by a push", nil
}

// installed tells whether a device has verified documents with n encryption identities of Alice.
func (s *story) installed(ctx context.Context, model string, n int) bool {
	devices, err := api.All(ctx, s.client.Devices)
	if err != nil {
		return false
	}
	have := 0
	for _, d := range devices {
		if !strings.HasPrefix(d.Model, model) {
			continue
		}
		e, err := s.client.Explain(ctx, d.ID)
		if err != nil {
			return false
		}
		for _, doc := range e.Documents {
			for _, c := range doc.Credentials {
				if doc.Status == "verified" && c.Installed && strings.Contains(c.Subject, "Old Corp") {
					have++
				}
			}
		}
	}
	return have == n
}

func (s *story) rolledOver(ctx context.Context, device string) error {
	before := signing(s.keys[device])
	items, err := s.keychain(ctx, device)
	if err != nil {
		return err
	}
	if err := must(len(encryption(items)) == len(imported)+1, "%s has %d encryption identities", device, len(encryption(items))); err != nil {
		return err
	}
	if err := must(slices.Equal(before, signing(items)), "%s: a new encryption certificate must not issue the signing certificate again", device); err != nil {
		return err
	}
	_, err = s.readOldMail(ctx, device, append([]string{"2026-next"}, generations...)...)
	return err
}

func (s *story) explainDevices(ctx context.Context) (string, error) {
	devices, err := api.All(ctx, s.client.Devices)
	if err != nil {
		return "", err
	}
	documents := 0
	for _, d := range devices {
		e, err := s.client.Explain(ctx, d.ID)
		if err != nil {
			return "", err
		}
		for _, doc := range e.Documents {
			documents++
			if err := must(doc.Status == "verified", "%s: %s is %s (%s %s)", d.Model, doc.ID, doc.Status, doc.Reason, doc.Detail); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d documents on %d devices are verified by the devices' own lists", documents, len(devices)), must(len(devices) == 5 && documents >= 17, "want an iPhone, an iPad and a phone with 3 documents each, and a Mac and a PC with 4")
}

func (s *story) leave(ctx context.Context) (string, error) {
	devices, err := api.All(ctx, s.client.Devices)
	if err != nil {
		return "", err
	}
	for _, d := range devices {
		if _, err := s.waxctl(ctx, "device", "retire", d.ID); err != nil {
			return "", err
		}
	}
	for device, message := range map[string]string{"iphone": "2017-offer", "ipad": "2017-offer", "mac": "2017-offer", "pc": "2024-bob", "android": "2024-bob"} {
		if err := s.sync(ctx, device); err != nil {
			return "", err
		}
		items, err := s.keychain(ctx, device)
		if err != nil {
			return "", err
		}
		if err := must(len(items) == 0, "%s still holds %d items", device, len(items)); err != nil {
			return "", err
		}
		if err := s.opens(ctx, device, message); err == nil {
			return "", fmt.Errorf("%s still opens old mail", device)
		}
	}
	return s.removalVerified(ctx)
}

func (s *story) removalVerified(ctx context.Context) (string, error) {
	devices, err := api.All(ctx, s.client.Devices)
	if err != nil {
		return "", err
	}
	for _, d := range devices {
		if err := must(d.State == "left" && d.Removal == "verified", "%s is %s, removal %s", d.Model, d.State, d.Removal); err != nil {
			return "", err
		}
	}
	return "keychains are empty, old mail stays shut, removal is verified", nil
}

func (s *story) revocation(ctx context.Context) (string, error) {
	var kept, revoked int
	err := waitFor(ctx, "the revocation of the signing certificates", func() bool {
		list, err := api.All(ctx, s.client.Certificates)
		if err != nil {
			return false
		}
		kept, revoked = 0, 0
		for _, c := range list {
			switch {
			case c.Kind == "imported" && c.Status == "current":
				kept++
			case c.Kind == "issued" && c.Status == "revoked":
				revoked++
			}
		}
		return revoked == 5
	})
	return fmt.Sprintf("%d imported certificates stay as they are, %d issued ones are in the CA's journal", kept, revoked), joinFirst(err, must(kept == len(imported)+2, "%d imported certificates are current", kept))
}

func joinFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// pushService waits for the fake APNs and gives the server's flags for it.
func (s *story) pushService(ctx context.Context) ([]string, error) {
	var url string
	err := waitFor(ctx, "the start of the push service", func() bool {
		raw, err := os.ReadFile(s.path("logs", "apns.log"))
		if err != nil {
			return false
		}
		line, _, ok := strings.Cut(string(raw), "\n")
		url = strings.TrimSpace(line)
		return ok && strings.HasPrefix(url, "https://")
	})
	s.push = url
	return []string{"--apns-url", url, "--apns-cert", s.path("apns", "push.pem"), "--apns-key", s.path("apns", "push.key"), "--apns-ca", s.path("apns", "ca.pem")}, err
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o600) }
