package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const (
	macOS     = "15.1"
	androidOS = "15"
)

// enrolMac: certificates come on the channel of its user, into the login keychain.
func (s *story) enrolMac(ctx context.Context) (string, error) {
	link, err := s.waxctl(ctx, "enroll", "link", "--user", "alice@corp.test", "--platform", "macos")
	if err != nil {
		return "", err
	}
	if _, err := s.agent(ctx, nil, "enroll", link, "--platform", "macos", "--state", s.path("mac"), "--ca", s.path("server", "ca.pem"),
		"--os-version", macOS, "--apns", s.push, "--apns-ca", s.path("apns", "ca.pem")); err != nil {
		return "", err
	}
	if err := s.sync(ctx, "mac"); err != nil {
		return "", err
	}
	items, err := s.keychain(ctx, "mac")
	if err != nil {
		return "", err
	}
	if err := must(slices.Equal(encryption(items), encryption(s.keys["iphone"])), "the Mac has other encryption identities than the iPhone"); err != nil {
		return "", err
	}
	if err := must(len(signing(items)) == 1 && !slices.Equal(signing(items), signing(s.keys["iphone"])), "the Mac has no signing identity of its own"); err != nil {
		return "", err
	}
	_, err = s.readOldMail(ctx, "mac", generations...)
	return "the iPhone's encryption identities, a signing identity of its own; the same old mail opens", err
}

// enrolAndroid: the companion app installs each key under an alias of its own and grants it to Outlook.
func (s *story) enrolAndroid(ctx context.Context) (string, error) {
	link, err := s.waxctl(ctx, "enroll", "link", "--user", bob, "--platform", "android")
	if err != nil {
		return "", err
	}
	if _, err := s.agent(ctx, nil, "enroll", link, "--platform", "android", "--state", s.path("android"), "--ca", s.path("server", "ca.pem"),
		"--os-version", androidOS); err != nil {
		return "", err
	}
	if err := s.sync(ctx, "android"); err != nil {
		return "", err
	}
	items, err := s.keychain(ctx, "android")
	if err != nil {
		return "", err
	}
	if err := must(slices.Equal(encryption(items), encryption(s.keys["pc"])), "the phone has other encryption identities than the PC"); err != nil {
		return "", err
	}
	_, err = s.readOldMail(ctx, "android", "2024-bob")
	return "the PC's encryption identity and one to sign; old mail opens in the mail app that was granted the keys",
		joinFirst(err, must(len(signing(items)) == 1, "the phone has %d signing identities", len(signing(items))))
}

const fromPhone = "From: Bob Example <bob@corp.test>\r\nTo: Alice Example <alice@corp.test>\r\nSubject: Re: My new PC\r\n" +
	"Date: Tue, 24 Nov 2026 09:30:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nRead it on the train.\r\n"

// answerAlice: signed, then encrypted, as mail programs do both.
func (s *story) answerAlice(ctx context.Context) (string, error) {
	if _, err := s.agent(ctx, nil, "keychain", "export", "--state", s.path("mac"), "--out", s.path("mac-export")); err != nil {
		return "", err
	}
	signed, err := s.agent(ctx, strings.NewReader(fromPhone), "mail", "sign", "--state", s.path("android"))
	if err != nil {
		return "", err
	}
	certificate := s.path("mac-export", newestOf(s.keys["mac"], encryption(s.keys["mac"]))+".pem")
	sealed, err := s.agent(ctx, strings.NewReader(signed), "mail", "encrypt", "--state", s.path("android"), "--cert", certificate)
	if err != nil {
		return "", err
	}
	for _, device := range []string{"mac", "iphone"} {
		opened, err := s.agent(ctx, strings.NewReader(sealed), "mail", "decrypt", "--state", s.path(device))
		if err != nil {
			return "", fmt.Errorf("on the %s: %w", device, err)
		}
		if err := must(strings.Contains(opened, "Read it on the train.") && !strings.Contains(sealed, "on the train"), "on the %s it opened to %q", device, opened); err != nil {
			return "", err
		}
		if _, err := s.agent(ctx, strings.NewReader(opened), "mail", "verify", "--state", s.path(device)); err != nil {
			return "", fmt.Errorf("on the %s: %w", device, err)
		}
	}
	return "Bob's message from the phone opened on her Mac and on her iPhone, and his signature verified", nil
}

// newestOf is the certificate that began last.
func newestOf(items []keychainItem, among []string) string {
	newest := keychainItem{}
	for _, i := range items {
		if slices.Contains(among, i.SHA256) && i.NotBefore.After(newest.NotBefore) {
			newest = i
		}
	}
	return newest.SHA256
}
