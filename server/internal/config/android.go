package config

import (
	"errors"

	"github.com/spf13/pflag"
)

// Android are the choices for Android devices: whether Google's management installs the companion app.
type Android struct {
	// Enterprise is the name at Google ("enterprises/LC012345"); empty: no link goes through Google.
	Enterprise string
	URL        string
	// TokenFile holds an OAuth access token of the scope androidmanagement; another program keeps it fresh.
	TokenFile         string
	Package           string
	SigningCertSHA256 []string
	FullyManaged      bool
}

// DefaultCompanionPackage is the companion app's name.
const DefaultCompanionPackage = "com.waxseal.companion"

func (a *Android) flags(f *pflag.FlagSet) {
	f.StringVar(&a.Enterprise, "amapi-enterprise", "", "enterprise at the Android Management API, as enterprises/LC012345; default: none, and links are given to the companion app by hand")
	f.StringVar(&a.URL, "amapi-url", "", "address of the Android Management API; default: Google's")
	f.StringVar(&a.TokenFile, "amapi-token-file", "", "file with an OAuth access token for it, which another program keeps fresh")
	f.StringVar(&a.Package, "companion-package", DefaultCompanionPackage, "package name of the companion app")
	f.StringSliceVar(&a.SigningCertSHA256, "companion-signing-cert-sha256", nil, "SHA-256 of the companion app's signing certificate, for one that is not on Google Play; repeatable")
	f.BoolVar(&a.FullyManaged, "amapi-fully-managed", false, "enrol fully managed devices instead of work profiles")
}

func (a Android) check() error {
	if (a.Enterprise == "") != (a.TokenFile == "") {
		return errors.New("amapi-enterprise and amapi-token-file are given together")
	}
	return nil
}
