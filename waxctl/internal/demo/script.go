package demo

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/waxseal/waxseal/internal/api"
)

// script is the story, in order.
func (s *story) script() []step {
	return []step{
		{"The server starts; it makes its own TLS CA and an admin token", s.startServer},
		{"A connector inside the network makes the keys and registers", s.startConnector},
		{"The admin says: mail for the sales group is signed and encrypted", s.applyProfiles},
		{"The admin imports every encryption certificate that Alice ever had", s.importHistory},
		{"The same file again, a wrong password, a colleague's file: nothing is stored", s.importRefused},
		{"Alice opens her link on an iPhone", func(ctx context.Context) (string, error) { return s.enrol(ctx, "iphone", "18.1", "iPhone16,1") }},
		{"Mail from nine years ago, from 2021 and of this month opens on the iPhone", func(ctx context.Context) (string, error) { return s.readOldMail(ctx, "iphone", generations...) }},
		{"She enrols an iPad, an older one", func(ctx context.Context) (string, error) { return s.enrol(ctx, "ipad", "16.7", "iPad13,1") }},
		{"The iPad has the same encryption certificates and another signing certificate", s.compareDevices},
		{"The same old mail opens on the iPad", func(ctx context.Context) (string, error) { return s.readOldMail(ctx, "ipad", generations...) }},
		{"Mail signed on the iPhone verifies on the iPad, and the iPad answers encrypted", s.exchange},
		{"Her Mac gets the same in the login keychain, by the channel of its user", s.enrolMac},
		{"A link works once", s.reuseLink},
		{"Bob enrols a Windows PC with a link and a one-time secret", s.enrolPC},
		{"His certificates are in the personal store, and Outlook is told to sign and encrypt", s.lookAtPC},
		{"Bob's old mail opens on the PC", func(ctx context.Context) (string, error) { return s.readOldMail(ctx, "pc", "2024-bob") }},
		{"Alice writes to Bob, encrypted; he reads it on the PC", s.writeToBob},
		{"Bob enrols an Android phone; his mail app is granted each key", s.enrolAndroid},
		{"Bob answers from the phone, signed and encrypted; Alice reads it on her Mac", s.answerAlice},
		{"A new encryption certificate comes; it is the current one, the old ones stay", s.rollover},
		{"Server and inventory agree on what is where", s.explainDevices},
		{"Alice leaves, and so does Bob: keys are gone from every device, seen by its inventory", s.leave},
		{"The imported certificates are not revoked, the issued ones are", s.revocation},
	}
}

// generations of Alice's keys with a message to each.
var generations = []string{"2017-offer", "2017-both", "2021-plan", "2026-news"}

var imported = []string{"alice-2016", "alice-2019", "alice-2024"}

func (s *story) startServer(ctx context.Context) (string, error) {
	if err := s.proc.start("waxseal-agent", "apns", "apns", "--listen", "127.0.0.1:0", "--out", s.path("apns")); err != nil {
		return "", err
	}
	push, err := s.pushService(ctx)
	if err != nil {
		return "", err
	}
	args := append([]string{"--data", s.path("server"), "--listen", "127.0.0.1:0", "--organization", "Example Corp"}, push...)
	if err := s.proc.start("waxseal-server", "server", args...); err != nil {
		return "", err
	}
	return s.serverUp(ctx)
}

func (s *story) serverUp(ctx context.Context) (string, error) {
	err := waitFor(ctx, "the start of the server", func() bool {
		raw, err := os.ReadFile(s.path("server", "address"))
		if err != nil || len(raw) == 0 {
			return false
		}
		s.server = strings.TrimSpace(string(raw))
		if s.client, err = api.Open(s.server, s.path("server", "ca.pem"), s.path("server", "admin-token")); err != nil {
			return false
		}
		_, err = s.client.Users(ctx, api.PageQuery{})
		return err == nil
	})
	return "the admin API answers at " + s.server, err
}

func (s *story) startConnector(ctx context.Context) (string, error) {
	token, err := s.waxctl(ctx, "connector", "token")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(s.path("connector-token"), []byte(token+"\n"), 0o600); err != nil {
		return "", err
	}
	out, err := s.proc.run(ctx, nil, "waxseal-connector", "init", "--keyring", s.path("connector"), "--server", s.server,
		"--ca", s.path("server", "ca.pem"), "--token-file", s.path("connector-token"))
	if err != nil {
		return "", err
	}
	if err := must(out.Code == 0, "waxseal-connector init: %s", out.Stderr); err != nil {
		return "", err
	}
	fingerprint := strings.TrimSpace(out.Stdout)
	if err := must(fingerprint != "" && fingerprint == s.escrowRoot(), "init printed %q, the keyring says %q", fingerprint, s.escrowRoot()); err != nil {
		return "", err
	}
	return "escrow root " + fingerprint[:min(23, len(fingerprint))] + "… is pinned", s.proc.start("waxseal-connector", "connector", "run", "--keyring", s.path("connector"))
}

func (s *story) applyProfiles(ctx context.Context) (string, error) {
	if _, err := s.waxctl(ctx, "apply", "-f", s.input("examples", "sales.yaml")); err != nil {
		return "", err
	}
	users, err := api.All(ctx, s.client.Users)
	if err != nil {
		return "", err
	}
	list, err := api.All(ctx, s.client.Profiles)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("the server has %d users and %d profiles", len(users), len(list)), must(len(users) == 2 && len(list) == 4, "want 2 users and 4 profiles")
}

func (s *story) importPFX(ctx context.Context, name, user, password string) (string, string, int) {
	args := append(s.connection(), "import", "pfx", s.input("pfx", name+".pfx"), "--user", user, "--password-file", s.input("pfx", password+".password"))
	return s.Waxctl(ctx, args...)
}

func (s *story) importHistory(ctx context.Context) (string, error) {
	for _, name := range imported {
		if _, stderr, code := s.importPFX(ctx, name, "alice@corp.test", name); code != 0 {
			return "", fmt.Errorf("import %s: %s", name, stderr)
		}
	}
	return s.records(ctx, len(imported))
}

func (s *story) records(ctx context.Context, want int) (string, error) {
	records, err := api.All(ctx, s.client.EscrowRecords)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d sealed records are in escrow", len(records)), must(len(records) == want, "want %d records, the server has %d", want, len(records))
}

func (s *story) importRefused(ctx context.Context) (string, error) {
	for _, c := range []struct {
		file, password, says string
		code                 int
	}{
		{"alice-2016", "alice-2016", "nothing changed", 0},
		{"alice-2024", "alice-2019", "password does not open", 1},
		{"bob-2024", "bob-2024", "belongs to bob@corp.test", 1},
		{"bad-no-key", "bad-no-key", "no private key", 1},
	} {
		_, stderr, code := s.importPFX(ctx, c.file, "alice@corp.test", c.password)
		if err := must(code == c.code && strings.Contains(stderr, c.says), "import of %s ended with %d and said: %s", c.file, code, stderr); err != nil {
			return "", err
		}
	}
	return s.records(ctx, len(imported))
}

func (s *story) enrol(ctx context.Context, device, os, model string) (string, error) {
	link, err := s.waxctl(ctx, "enroll", "link", "--user", "alice@corp.test")
	if err != nil {
		return "", err
	}
	if err := writeFile(s.path(device+"-link"), link); err != nil {
		return "", err
	}
	if _, err := s.agent(ctx, nil, "enroll", link, "--platform", "ios", "--state", s.path(device), "--ca", s.path("server", "ca.pem"),
		"--os-version", os, "--model", model, "--apns", s.push, "--apns-ca", s.path("apns", "ca.pem")); err != nil {
		return "", err
	}
	if err := s.sync(ctx, device); err != nil {
		return "", err
	}
	items, err := s.keychain(ctx, device)
	if err != nil {
		return "", err
	}
	enc, sign := encryption(items), signing(items)
	return fmt.Sprintf("its keychain holds %d encryption identities and a signing identity of its own", len(enc)),
		must(len(enc) == len(imported) && len(sign) == 1, "want %d encryption identities and 1 for signing, the keychain has %d and %d", len(imported), len(enc), len(sign))
}

func (s *story) sync(ctx context.Context, device string) error {
	_, err := s.agent(ctx, nil, "sync", "--state", s.path(device), "--wait", "30s")
	return err
}
