package softca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
)

func BenchmarkAnswers(b *testing.B) {
	o := keyring.Options{Rand: rand.Reader, Clock: func() time.Time { return testNow }, CAKeyBits: 2048}
	k, err := keyring.Create(filepath.Join(b.TempDir(), "keyring"), keyring.Settings{Name: "bench"}, nil, o)
	if err == nil {
		err = k.MakeAuthorities()
	}
	if err != nil {
		b.Fatal(err)
	}
	f, err := k.SMIME()
	if err != nil {
		b.Fatal(err)
	}
	r, err := newResponder(k, f.Current())
	if err != nil {
		b.Fatal(err)
	}
	bytes := 0
	bare := signatures(b, r)
	for b.Loop() {
		a, err := r.answer(f.Current(), learned{"2a", fact{CA: "softca", NotAfter: testNow}}, testNow)
		if err != nil {
			b.Fatal(err)
		}
		bytes = len(a.SHA1) + len(a.SHA256)
	}
	b.ReportMetric(float64(bytes), "B/certificate")
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(bare), "x-two-signatures")
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)*100000/float64(time.Second), "s/100000")
}

// signatures is how long two bare signatures take here and now: what an answer cannot do without.
func signatures(b *testing.B, r *responder) time.Duration {
	b.Helper()
	const n = 200
	begin := time.Now()
	for range n {
		if _, err := rsa.SignPKCS1v15(rand.Reader, r.key, crypto.SHA256, make([]byte, 32)); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin) * 2 / n
}

func BenchmarkLoad(b *testing.B) {
	o := keyring.Options{Rand: rand.Reader, Clock: func() time.Time { return testNow }, CAKeyBits: 2048}
	k, err := keyring.Create(filepath.Join(b.TempDir(), "keyring"), keyring.Settings{Name: "bench"}, nil, o)
	if err != nil {
		b.Fatal(err)
	}
	j, err := journal.Open(k.Path(keyring.FileSoftCA))
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close() //nolint:errcheck // the folder goes
	const n = 2000
	for i := range n {
		entry := issued{Intent: fmt.Sprint(i), Serial: fmt.Sprintf("%032x", i+1), Certificate: make([]byte, 1400), Issuer: keyring.SoftCA, NotAfter: testNow}
		if err := j.Put(intentKey(fmt.Sprint(i)), entry); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := New(k, j).load(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)*100000/n/float64(time.Second), "s/100000")
}
