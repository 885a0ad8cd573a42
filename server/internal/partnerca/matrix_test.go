package partnerca_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// play is one cell of the matrix: a device of a platform, at a partner with one of the libraries.
type play struct {
	*world
	c         *client
	column    string
	enrolment string
}

// scenario is a row.
type scenario struct {
	name string
	edit func(r *profiles.CertificateRequest)
	not  []string // columns that have "N/A"
	play func(p *play)
}

// asks makes the device's request as its platform does.
func (p *play) asks(key int) request {
	return requestFor(p, matrix()[p.column], p.order(p.enrolment), testpki.PoolKey(p, key), p.challenge(p.enrolment))
}

// issued has the device certified, and sees that the server knows exactly that certificate.
func (p *play) issued(r request, life time.Duration) *x509.Certificate {
	p.Helper()
	cert, why := p.serveDevice(p.c, "T-"+p.id(), r.der(p), life)
	if cert == nil {
		p.Fatal(why)
	}
	all := p.certificates(p.enrolment)
	if len(all) == 0 {
		p.Fatal("the server knows no certificate")
	}
	newest := slices.MaxFunc(all, func(a, b model.Certificate) int { return a.CreatedAt.Compare(b.CreatedAt) })
	if newest.SHA1 != hexOf(sha1Of(cert.Raw)) || !newest.NotAfter.Equal(cert.NotAfter) || newest.Serial != cert.SerialNumber.Text(16) || newest.CA != "ejbca" || newest.Status != "current" {
		p.Errorf("the server knows %+v", newest)
	}
	if newest.Subject != profiles.NameString(cert.Subject) {
		p.Errorf("the server says %q, the certificate %q", newest.Subject, cert.Subject)
	}
	return cert
}

// refused has a request refused at validation: the partner issues nothing and nothing is known.
func (p *play) refused(r request, code string) {
	p.Helper()
	before := len(p.certificates(p.enrolment))
	if cert, why := p.serveDevice(p.c, "T-"+p.id(), r.der(p), year); cert != nil || !strings.Contains(why, code) {
		p.Errorf("issued %t, %s; want %s", cert != nil, why, code)
	}
	if after := len(p.certificates(p.enrolment)); after != before {
		p.Errorf("%d certificates, there were %d", after, before)
	}
}

const year = 365 * 24 * time.Hour

func subject(text string) func(*profiles.CertificateRequest) {
	return func(r *profiles.CertificateRequest) { r.Subject = text }
}

// named plays a subject format: the certificate has it, and a request for another is refused.
func named(want string) func(*play) {
	return func(p *play) {
		cert := p.issued(p.asks(1), year)
		if got := profiles.NameString(cert.Subject); got != strings.ReplaceAll(want, "COLUMN", p.column) {
			p.Errorf("subject %q, want %q", got, want)
		}
		other := p.asks(2)
		other.subject = marshal(p, wrongName())
		p.refused(other, "SubjectNameMismatch")
	}
}

func sans(names ...profiles.SubjectAlternativeName) func(*profiles.CertificateRequest) {
	return func(r *profiles.CertificateRequest) { r.SubjectAlternativeNames = names }
}

var (
	mail = profiles.SubjectAlternativeName{Type: profiles.SANEmail, Value: "{{EmailAddress}}"}
	upn  = profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: "{{UserPrincipalName}}"}
)

// alternative plays subject alternative names.
func alternative(want ...string) func(*play) {
	return func(p *play) {
		cert := p.issued(p.asks(1), year)
		got := slices.Clone(cert.EmailAddresses)
		for _, e := range cert.Extensions {
			if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) && strings.Contains(string(e.Value), "alice@corp.test") && len(want) > len(got) {
				got = append(got, "alice@corp.test") // the UPN, which crypto/x509 does not read
			}
		}
		if !slices.Equal(got, want) {
			p.Errorf("names %q, want %q", got, want)
		}
		other := p.asks(2)
		other.extensions[0] = sanExtension(p, []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "boss@corp.test"}})
		p.refused(other, "SubjectAltNameMismatch")
		none := p.asks(3)
		none.extensions = none.extensions[1:]
		p.refused(none, "SubjectAltNameMissing")
	}
}

func usage(names ...string) func(*profiles.CertificateRequest) {
	return func(r *profiles.CertificateRequest) { r.KeyUsage = names }
}

// used plays key usages.
func used(want x509.KeyUsage) func(*play) {
	return func(p *play) {
		if cert := p.issued(p.asks(1), year); cert.KeyUsage != want {
			p.Errorf("key usage %b, want %b", cert.KeyUsage, want)
		}
		other := p.asks(2)
		names := []string{"digitalSignature"}
		if want&x509.KeyUsageDigitalSignature != 0 {
			names = []string{"keyEncipherment"}
		}
		other.extensions[1] = usageExtension(p, names, false)
		p.refused(other, "KeyUsageMismatch")
	}
}

func extended(names ...string) func(*profiles.CertificateRequest) {
	return func(r *profiles.CertificateRequest) { r.ExtendedKeyUsage = names }
}

// purposes plays extended key usages. Apple's requests have none: the CA adds it.
func purposes(want asn1.ObjectIdentifier) func(*play) {
	return func(p *play) {
		cert := p.issued(p.asks(1), year)
		apple := p.column == "iOS" || p.column == "OSX"
		has := slices.ContainsFunc(cert.UnknownExtKeyUsage, want.Equal) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageIPSECTunnel)
		if has == apple {
			p.Errorf("extended key usage %v %v", cert.ExtKeyUsage, cert.UnknownExtKeyUsage)
		}
		other := p.asks(2)
		other.extensions = append(other.extensions[:2], extension(p, asn1.ObjectIdentifier{2, 5, 29, 37}, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 3}}))
		p.refused(other, "EnhancedKeyUsageMismatch")
		if !apple {
			none := p.asks(3)
			none.extensions = none.extensions[:2]
			p.refused(none, "EnhancedKeyUsageMissing")
		}
	}
}

// hashed plays the hash that a device signs its request with.
func hashed(hashes ...crypto.Hash) func(*play) {
	return func(p *play) {
		for i, h := range hashes {
			r := p.asks(1 + i)
			r.hash = h
			p.issued(r, year)
			p.now = p.now.Add(time.Minute)
		}
	}
}

// scenarios are the 25 rows, in their order.
func scenarios() []scenario {
	return slices.Concat(nameRows(), keyRows(), purposeRows(), failureRows())
}

func nameRows() []scenario {
	return []scenario{
		{"Validation Period Configuration", nil, nil, func(p *play) { p.issued(p.asks(1), 30*24*time.Hour) }},
		{"SN Format: Common Name", subject("CN={{UserName}}"), nil, named("CN=Alice Example")},
		{"SN Format: Common Name with email", subject("CN={{UserName}},E={{EmailAddress}}"), nil, named("CN=Alice Example,E=alice@corp.test")},
		{"SN Format: Common name as email", subject("CN={{EmailAddress}}"), nil, named("CN=alice@corp.test")},
		{"SN Format: IMEI", subject("CN={{IMEINumber}}"), nil, named("CN=356938035643809")},
		{"SN Format: Serial number", subject("CN={{SerialNumber}}"), nil, named("CN=SN-COLUMN")},
		{"SN Format: Custom", subject("CN={{UserName}},OU=Sales,O=Corp,C=DE"), nil, named("CN=Alice Example,OU=Sales,O=Corp,C=DE")},
		{"SAN: Email", sans(mail), nil, alternative("alice@corp.test")},
		{"SAN: UPN", sans(upn), nil, alternative("alice@corp.test")},
		{"SAN: Email and UPN", sans(mail, upn), nil, alternative("alice@corp.test", "alice@corp.test")},
	}
}

func keyRows() []scenario {
	return []scenario{
		{"Key Usage: Digital signature", usage("digitalSignature"), nil, used(x509.KeyUsageDigitalSignature)},
		{"Key Usage: Key encipherment", usage("keyEncipherment"), nil, used(x509.KeyUsageKeyEncipherment)},
		{"Key Usage: Digital signature and Key encipherment", usage("digitalSignature", "keyEncipherment"), nil, func(p *play) {
			if cert := p.issued(p.asks(1), year); cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
				p.Errorf("key usage %b", cert.KeyUsage)
			}
			other := p.asks(2)
			other.extensions[1] = usageExtension(p, []string{"digitalSignature"}, false)
			p.refused(other, "KeyUsageMismatch")
		}},
		// No profile can ask for 1024 bits, and a device that does is refused.
		{"Key Size: 1024", nil, nil, func(p *play) {
			r := p.asks(1)
			r.key = shortKey(p)
			p.refused(r, "KeyLengthMismatch")
		}},
		{"Key Size: 2048", nil, nil, func(p *play) {
			if bits := p.issued(p.asks(1), year).PublicKey.(*rsa.PublicKey).N.BitLen(); bits != 2048 {
				p.Errorf("%d bits", bits)
			}
		}},
	}
}

func purposeRows() []scenario {
	apple := []string{"iOS", "OSX"}
	return []scenario{
		{"Hash Alg: SHA-1", nil, apple, hashed(crypto.SHA1)},
		{"Hash Alg: SHA-2", nil, apple, hashed(crypto.SHA256)},
		{"Hash Alg: SHA-1 & SHA-2", nil, apple, hashed(crypto.SHA1, crypto.SHA512)},
		{"Extended Key Usage: Client Authentication", extended("clientAuth"), nil, purposes(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2})},
		{"Extended Key Usage: Ipsec Tunnel", extended("1.3.6.1.5.5.7.3.6"), nil, purposes(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 6})},
		{"Renewal", nil, nil, renews},
	}
}

func failureRows() []scenario {
	return []scenario{
		{"Challenge Authentication Failure", nil, nil, func(p *play) {
			r := p.asks(1)
			r.challenge = strings.Repeat("A", len(r.challenge))
			p.refused(r, "ChallengeDecryptionError")
		}},
		{"Challenge Authentication Failure - 2", nil, nil, func(p *play) {
			r := p.asks(1)
			p.breaks["request"] = true
			p.refused(r, "500")
			p.breaks["request"] = false
			p.issued(r, year)
		}},
		{"Success Notification Failure", nil, nil, func(p *play) {
			r := p.asks(1)
			p.breaks["note"] = true
			p.refused(r, "500")
			p.breaks["note"] = false
			p.issued(r, year)
		}},
		{"Communication Failure", nil, nil, func(p *play) {
			p.c.config["AAD_APP_KEY"] = "wrong"
			p.refused(p.asks(1), "invalid_client")
		}},
	}
}

// renews lives until the profile wants another certificate: another key, by another challenge, and both are known.
func renews(p *play) {
	first := p.order(p.enrolment).RequestID
	p.issued(p.asks(1), 30*24*time.Hour)
	if again := p.order(p.enrolment).RequestID; again != first {
		p.Error("the certificate was not taken for what was asked for")
	}
	p.now = p.now.Add(25 * 24 * time.Hour)
	if again := p.order(p.enrolment).RequestID; again == first {
		p.Fatal("no renewal is due")
	}
	p.issued(p.asks(2), year)
	if all := p.certificates(p.enrolment); len(all) != 2 {
		p.Errorf("%d certificates", len(all))
	}
}

// TestPA10Matrix plays the 25 rows of Microsoft's test matrix over its five columns, as both libraries.
func TestPA10Matrix(t *testing.T) {
	rows := scenarios()
	if len(rows) != 25 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dialects(t, func(t *testing.T, java bool) {
				w := newWorld(t)
				w.own(row.edit)
				for column := range matrix() {
					if slices.Contains(row.not, column) {
						continue
					}
					t.Run(column, func(t *testing.T) {
						defer func(outer *testing.T) { w.T = outer }(w.T)
						w.T = t
						row.play(&play{world: w, c: w.client(java), column: column, enrolment: w.device(column)})
					})
				}
			})
		})
	}
}

func shortKey(t testing.TB) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func hexOf(sum [20]byte) string { return hex.EncodeToString(sum[:]) }
