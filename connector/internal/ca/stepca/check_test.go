package stepca

import (
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

func TestTestFindsNothingWrong(t *testing.T) {
	f := newFake(t)
	for _, old := range []bool{false, true} {
		f.old = old
		var checks []string
		for _, finding := range f.adapter(f.usual()).Test(t.Context()) {
			checks = append(checks, finding.Check)
			if !finding.OK {
				t.Errorf("%s: %s", finding.Check, finding.Detail)
			}
		}
		want := 8
		if old {
			want--
		}
		if len(checks) != want {
			t.Errorf("looked at %v", checks)
		}
	}
	if len(f.requests)+len(f.revoked) != 0 {
		t.Error("a test asked for a certificate, or revoked one")
	}
}

func TestTestFindsWhatIsWrong(t *testing.T) {
	cases := map[string]struct {
		change func(f *fake, o *Options)
		check  string
	}{
		"another service":  {func(f *fake, _ *Options) { f.health = "<html>" }, "health"},
		"another key":      {func(f *fake, o *Options) { f.keys["waxseal"] = newMaterial(t) }, "credentials"},
		"that key's id":    {func(f *fake, o *Options) { f.keys["waxseal"] = newMaterial(t) }, "provisioner"},
		"wrong type":       {func(f *fake, o *Options) { o.Name = "acme" }, "provisioner"},
		"no such one":      {func(f *fake, o *Options) { o.Name = "nobody" }, "provisioner"},
		"another root":     {func(f *fake, o *Options) { o.RootFingerprint = fingerprint(testpki.NewCA(t, "Another CA").Cert) }, "root"},
		"down":             {func(f *fake, _ *Options) { f.http.Close() }, "url"},
		"credentials down": {func(f *fake, _ *Options) { f.answer = status(500, "") }, "credentials"},
		"revokes anything": {func(f *fake, _ *Options) { f.answer = status(200, "{}") }, "credentials"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			o := f.usual()
			tc.change(f, &o)
			wantWrong(t, f.adapter(o).Test(t.Context()), tc.check)
		})
	}
}
