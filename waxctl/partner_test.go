package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/testpki"
)

func TestPartnerAdd(t *testing.T) {
	ca := testpki.NewCA(t, "Partner CA")
	dir := t.TempDir()
	good, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	for name, content := range map[string][]byte{good: ca.CertPEM(), empty: []byte("x")} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := server(t, api.BasePath+"/partners", api.Partner{Name: "ejbca", AppID: "the-app", Secret: "the-secret", Server: "https://mdm.example/"})
	out, errs, code := run(t, append(flags, "partner", "add", "ejbca", "--url", "https://ca.example/scep", "--issuer-cert", good)...)
	if code != 0 || out != "the-app\nthe-secret\n" || !strings.Contains(errs, "https://mdm.example/") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	for file, want := range map[string]string{empty: "no certificate", filepath.Join(dir, "none"): "none"} {
		if _, errs, code := run(t, append(flags, "partner", "add", "ejbca", "--url", "https://ca.example/scep", "--issuer-cert", file)...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%d %q", code, errs)
		}
	}
}

func TestPartnerList(t *testing.T) {
	flags := server(t, api.BasePath+"/partners", api.Page[api.Partner]{Items: []api.Partner{{Name: "ejbca", URL: "https://ca.example/scep", AppID: "the-app"}}})
	if out, errs, code := run(t, append(flags, "partner", "list")...); code != 0 || !strings.Contains(out, "https://ca.example/scep  the-app") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if _, errs, code := run(t, append(flags, "partner", "remove", "none")...); code != 1 || !strings.Contains(errs, "404") && !strings.Contains(errs, "Not Found") {
		t.Errorf("%d %q", code, errs)
	}
}
