package issuance

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// TestStrictlyWhatAPlatformCanAsk: what a device cannot put into its request is not missed there, and everything else is.
func TestStrictlyWhatAPlatformCanAsk(t *testing.T) {
	order := theOrder(t)
	order.SANs = append(order.SANs, profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: "a@corp.test"})
	order.Request.KeyUsage = []string{"digitalSignature", "nonRepudiation", "keyEncipherment"}
	usage := func(bits byte) pkix.Extension {
		return extension(t, oidKeyUsage, asn1.BitString{Bytes: []byte{bits}, BitLength: 8})
	}
	san := func(upns ...string) pkix.Extension {
		all := names(name(1, "alice@corp.test"))
		for _, u := range upns {
			all = append(all, otherName(t, oidUPN, u))
		}
		return extension(t, oidSubjectAltName, all)
	}
	eku := extension(t, oidExtKeyUsage, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 4}})
	both := san("alice@corp.test", "a@corp.test")
	cases := []struct {
		name       string
		platform   profiles.Platform
		extensions []pkix.Extension
		want       Code
	}{
		{"Apple: one UPN, two usages, no purpose", profiles.IOS, []pkix.Extension{san("alice@corp.test"), usage(0xa0)}, ""},
		{"a Mac as well", profiles.MacOS, []pkix.Extension{san("alice@corp.test"), usage(0xa0)}, ""},
		{"Apple: the other UPN alone", profiles.IOS, []pkix.Extension{san("a@corp.test"), usage(0xa0)}, SubjectAltNameMismatch},
		{"Apple: one usage", profiles.IOS, []pkix.Extension{san("alice@corp.test"), usage(0x80)}, KeyUsageMismatch},
		{"Windows: one UPN", profiles.Windows, []pkix.Extension{san("alice@corp.test"), usage(0xe0), eku}, SubjectAltNameMismatch},
		{"Windows: two usages", profiles.Windows, []pkix.Extension{both, usage(0xa0), eku}, KeyUsageMismatch},
		{"Windows: no purpose", profiles.Windows, []pkix.Extension{both, usage(0xe0)}, EnhancedKeyUsageMissing},
		{"Windows: all", profiles.Windows, []pkix.Extension{both, usage(0xe0), eku}, ""},
		{"Android: all", profiles.Android, []pkix.Extension{both, usage(0xe0), eku}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			order.Platform = c.platform
			if err := Check(requestOf(t, testpki.PoolKey(t, 1), order.Subject, c.extensions...), order, true); codeOf(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// whole is a request with all that the order gives.
func (w *world) whole(key int) *x509.CertificateRequest {
	w.t.Helper()
	return requestOf(w.t, testpki.PoolKey(w.t, key), theOrder(w.t).Subject, extension(w.t, oidSubjectAltName, names(name(1, "alice@corp.test"), otherName(w.t, oidUPN, "alice@corp.test"))),
		extension(w.t, oidKeyUsage, asn1.BitString{Bytes: []byte{0x80}, BitLength: 8}), extension(w.t, oidExtKeyUsage, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 4}}))
}

// TestApprove: a partner approves what is for it, for one key; what it then says of a request must be about that.
func TestApprove(t *testing.T) {
	w := newWorld(t)
	order := theOrder(t)
	order.Needs = []string{link.PartnerMember("ejbca")}
	w.orders["e-1"] = []link.CertifyJob{order}
	w.silent = true
	challenge, csr := w.challenge(), w.whole(1)
	if _, err := w.svc.Approved(t.Context(), "ejbca", challenge, csr); codeOf(err) != BadRequestIDInChallenge {
		t.Errorf("before: %v", err)
	}
	if _, err := w.svc.Approve(t.Context(), "other", challenge, "T", csr); codeOf(err) != BadRequestIDInChallenge {
		t.Errorf("another partner: %v", err)
	}
	for range 2 {
		r, err := w.svc.Approve(t.Context(), "ejbca", challenge, "T", csr)
		if err != nil || link.PartnerOf(w.jobs[r.JobID].Needs) != "ejbca" {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if _, err := w.svc.Approve(t.Context(), "ejbca", challenge, "T", w.whole(2)); codeOf(err) != RegisteredKeyMismatch {
		t.Errorf("another key: %v", err)
	}
	w.orders["e-1"] = nil // what is wanted now does not matter for what is told
	if _, err := w.svc.Approved(t.Context(), "ejbca", challenge, csr); err != nil {
		t.Errorf("after: %v", err)
	}
	for name, got := range map[string]error{
		"another partner": second(w.svc.Approved(t.Context(), "other", challenge, csr)), "no challenge": second(w.svc.Approved(t.Context(), "ejbca", "", csr)),
		"another key": second(w.svc.Approved(t.Context(), "ejbca", challenge, w.whole(2))),
	} {
		want := map[string]Code{"another partner": BadRequestIDInChallenge, "no challenge": ChallengePasswordMissing, "another key": RegisteredKeyMismatch}[name]
		if codeOf(got) != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestPartnersChallengeIsNotForUs: a device that asks this server for what a partner certifies is refused.
func TestPartnersChallengeIsNotForUs(t *testing.T) {
	w := newWorld(t)
	order := theOrder(t)
	order.Needs = []string{link.PartnerMember("ejbca")}
	w.orders["e-1"] = []link.CertifyJob{order}
	w.silent = true
	challenge := w.challenge()
	if _, err := w.svc.Begin(t.Context(), challenge, "T", w.whole(1)); codeOf(err) != BadRequestIDInChallenge {
		t.Errorf("before: %v", err)
	}
	if _, err := w.svc.Approve(t.Context(), "ejbca", challenge, "T", w.whole(1)); err != nil {
		t.Fatal(err)
	}
	r, err := w.svc.Begin(t.Context(), challenge, "T", w.whole(1))
	if err == nil {
		_, err = w.svc.Answer(t.Context(), r)
	}
	if codeOf(err) != BadRequestIDInChallenge {
		t.Errorf("after: %v", err)
	}
}
