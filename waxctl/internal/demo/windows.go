package demo

import (
	"context"
	"fmt"
	"strings"
)

const (
	bob       = "bob@corp.test"
	windowsOS = "10.0.22631"
)

// enrolPC: Bob gets a link that opens the enrolment in Windows' settings, and a secret that works once.
func (s *story) enrolPC(ctx context.Context) (string, error) {
	if _, stderr, code := s.importPFX(ctx, "bob-2024", bob, "bob-2024"); code != 0 {
		return "", fmt.Errorf("import bob-2024: %s", stderr)
	}
	out, err := s.waxctl(ctx, "enroll", "link", "--user", bob, "--platform", "windows")
	if err != nil {
		return "", err
	}
	link, secret, ok := strings.Cut(out, "\n")
	if err := must(ok && strings.HasPrefix(link, "ms-device-enrollment:"), "enroll link printed %q", out); err != nil {
		return "", err
	}
	if err := writeFile(s.path("pc-secret"), secret+"\n"); err != nil {
		return "", err
	}
	if _, err := s.agent(ctx, nil, "enroll", link, "--platform", "windows", "--secret-file", s.path("pc-secret"), "--state", s.path("pc"),
		"--ca", s.path("server", "ca.pem"), "--os-version", windowsOS); err != nil {
		return "", err
	}
	if err := s.sync(ctx, "pc"); err != nil {
		return "", err
	}
	return "Windows " + windowsOS + " is enrolled", s.spentSecret(ctx, link)
}

func (s *story) spentSecret(ctx context.Context, link string) error {
	out, err := s.proc.run(ctx, nil, "waxseal-agent", "enroll", link, "--platform", "windows", "--secret-file", s.path("pc-secret"),
		"--state", s.path("thief-pc"), "--ca", s.path("server", "ca.pem"))
	if err != nil {
		return err
	}
	return must(out.Code != 0, "a spent secret enrolled another PC")
}

// lookAtPC: certificates are in the store where Outlook looks, and Outlook's policies are set.
func (s *story) lookAtPC(ctx context.Context) (string, error) {
	items, err := s.keychain(ctx, "pc")
	if err != nil {
		return "", err
	}
	enc, sign := encryption(items), signing(items)
	if err := must(len(enc) == 1 && len(sign) == 1, "want 1 encryption identity and 1 for signing, the PC has %d and %d", len(enc), len(sign)); err != nil {
		return "", err
	}
	for _, i := range items {
		if err := must(!i.HasPrivateKey || len(i.Addresses) == 0 || i.Profile == `User/My`, "%s is in %s", i.Subject, i.Profile); err != nil {
			return "", err
		}
	}
	policies, err := s.agent(ctx, nil, "policies", "--state", s.path("pc"))
	if err != nil {
		return "", err
	}
	for _, name := range []string{"AlwaysSign=1", "AlwaysEncrypt=1"} {
		if err := must(strings.Contains(strings.ReplaceAll(policies, " ", ""), name), "Outlook's policies lack %s:\n%s", name, policies); err != nil {
			return "", err
		}
	}
	return "both identities are in User/My; AlwaysSign and AlwaysEncrypt are set", nil
}

const toAlice = "From: Bob Example <bob@corp.test>\r\nTo: Alice Example <alice@corp.test>\r\nSubject: My new PC\r\n" +
	"Date: Tue, 24 Nov 2026 09:10:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nWrite to me encrypted.\r\n"

const toBob = "From: Alice Example <alice@corp.test>\r\nTo: Bob Example <bob@corp.test>\r\nSubject: Re: My new PC\r\n" +
	"Date: Tue, 24 Nov 2026 09:20:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThe offer is attached.\r\n"

// writeToBob: the address book of the company would have Bob's certificate; here it comes from his PC.
func (s *story) writeToBob(ctx context.Context) (string, error) {
	signed, err := s.agent(ctx, strings.NewReader(toAlice), "mail", "sign", "--state", s.path("pc"))
	if err != nil {
		return "", err
	}
	if _, err := s.agent(ctx, strings.NewReader(signed), "mail", "verify", "--state", s.path("iphone")); err != nil {
		return "", err
	}
	if _, err := s.agent(ctx, nil, "keychain", "export", "--state", s.path("pc"), "--out", s.path("pc-export")); err != nil {
		return "", err
	}
	certificate := s.path("pc-export", encryption(s.keys["pc"])[0]+".pem")
	sealed, err := s.agent(ctx, strings.NewReader(toBob), "mail", "encrypt", "--state", s.path("iphone"), "--cert", certificate)
	if err != nil {
		return "", err
	}
	opened, err := s.agent(ctx, strings.NewReader(sealed), "mail", "decrypt", "--state", s.path("pc"))
	if err != nil {
		return "", err
	}
	if err := must(strings.Contains(opened, "The offer is attached.") && !strings.Contains(sealed, "The offer"), "the message opened to %q", opened); err != nil {
		return "", err
	}
	_, err = s.agent(ctx, strings.NewReader(sealed), "mail", "decrypt", "--state", s.path("ipad")) // her own copy
	return "Bob's signature verified on the phone, her answer opened on his PC", err
}
