package smime

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		message, field, want string
		bad                  bool
	}{
		"folded":            {"Subject: a\r\n b\r\n\tc\r\n\r\nbody", "subject", "a b\tc", false},
		"LF":                {"A: b\nC: d\n\nbody", "C", "d", false},
		"no body":           {"A: b\n", "A", "b", false},
		"mailbox file":      {"From alice Mon\nA: b\n\n", "A", "b", false},
		"empty":             {"", "A", "", false},
		"continuation":      {" A: b\n\n", "", "", true},
		"no name":           {"A: b\nhello\n\n", "", "", true},
		"space in name":     {"A b: c\n\n", "", "", true},
		"two content types": {"Content-Type: a/b\ncontent-type: c/d\n\n", "", "", true},
		"two authors":       {"From: a@b\nFrom: c@d\n\n", "", "", true},
		"two senders":       {"Sender: a@b\nSender: c@d\n\n", "", "", true},
		"too many fields":   {strings.Repeat("A: b\n", maxFields+1) + "\n", "", "", true},
		"too long":          {"A: " + strings.Repeat("b", maxHeader) + "\n\n", "", "", true},
	}
	for name, tt := range tests {
		e, err := Parse([]byte(tt.message))
		if (err != nil) != tt.bad || err != nil && !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err == nil && e.Get(tt.field) != tt.want {
			t.Errorf("%s: %q", name, e.Get(tt.field))
		}
	}
}

// Names of senders may be in a charset that is not known here.
func TestAddresses(t *testing.T) {
	for _, name := range []string{"=?iso-8859-15?Q?J=F6rg?=", "=?windows-1252?B?SvZyZw==?=", "=?x-none?Q?a?=", "=?utf-8?Q?J=C3=B6rg?="} {
		e, err := Parse([]byte("To: a@example.com, " + name + " <b@example.com>\n\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.Addresses("To"); err != nil || strings.Join(got, " ") != "a@example.com b@example.com" {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	if got := canonical([]byte("a\nb\r\nc\n\nd")); string(got) != "a\r\nb\r\nc\r\n\r\nd" {
		t.Errorf("%q", got)
	}
}

func TestSplitParts(t *testing.T) {
	parts, err := splitParts([]byte("preamble\r\n--x\r\none\r\n\r\n--x  \r\ntwo\n--xy\n--x--\r\nepilogue"), "x")
	if err != nil || len(parts) != 2 || string(parts[0]) != "one\r\n" || string(parts[1]) != "two\n--xy" {
		t.Errorf("%q %v", parts, err)
	}
	for _, bad := range []string{"", strings.Repeat("y", 71)} {
		if _, err := splitParts(nil, bad); err == nil {
			t.Errorf("boundary %q", bad)
		}
	}
}

func TestEightBitParts(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	id := ca.Issue(t, testpki.Options{Emails: []string{"a@example.com"}})
	signer := Signer{Certificate: id.Cert, Key: id.Key}
	if _, err := Sign(rand.Reader, []byte("Content-Type: multipart/mixed; boundary=x\n\n--x\n\nü\n--x--\n"), signer, testpki.Now()); !errors.Is(err, ErrMessage) {
		t.Errorf("8-bit multipart: %v", err)
	}
	out, err := Sign(rand.Reader, []byte("From: a@example.com\n\nGrüße\n"), signer, testpki.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !isSevenBit(out) || !bytes.Contains(out, []byte("charset=utf-8")) {
		t.Errorf("%q", out)
	}
	if _, err := Verify(out); err != nil {
		t.Error(err)
	}
}

// FuzzMessage reads anything without panicking, and what it takes it can write again.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		"From: a@b\r\nContent-Type: text/plain\r\n\r\nbody",
		"Content-Type: multipart/signed; boundary=x; protocol=\"application/pkcs7-signature\"\n\n--x\nA: b\n\nc\n--x\nContent-Type: application/pkcs7-signature\nContent-Transfer-Encoding: base64\n\nMIAGCSqGSIb3DQEHAqCA\n--x--\n",
		"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\nMIAGCSqGSIb3DQEHA6CA\n",
		"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\n0\x80",
		"From: a@b\nContent-Type: application/pkcs7-mime\nContent-Transfer-Encoding: binary\n\n0\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02",
		"Content-Transfer-Encoding: binary\n\na\nb\r\x00", "Content-Transfer-Encoding: quoted-printable\n\n=\n=C3",
		" \n", "From x\n\n", ":\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = Verify(data)
		_, _ = Decrypt(data, nil)
		e, err := Parse(data)
		if err != nil {
			return
		}
		again, err := Parse(e.with(e.inner()))
		if err != nil && len(data) < maxHeader/4 {
			t.Fatalf("cannot read what was written: %v", err)
		}
		if err == nil && again.Get("From") != e.Get("From") {
			t.Fatalf("From changed: %q %q", e.Get("From"), again.Get("From"))
		}
	})
}
