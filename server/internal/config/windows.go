package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Windows are the choices for Windows PCs; most stand for what is not verified on hardware (docs/protocols/windows.md).
type Windows struct {
	// Auth is what a PC that can do both is asked for: "onpremise" or "federated".
	Auth string
	// AppRUs are the addresses of Windows that the sign-in page hands its token to.
	AppRUs []string
	// RenewDays is how long before its end a PC renews its certificate, 1 to 1000 (CertificateStore CSP, RenewPeriod).
	RenewDays int
	// MessageSigning makes PCs sign each message, for servers behind a proxy that ends TLS.
	MessageSigning bool
	// CryptoProviders are asked for in this order.
	CryptoProviders []string
	// FaultStatus is the HTTP status of SOAP faults.
	FaultStatus     int
	LowerCaseFaults bool
}

// Defaults for Windows.
const (
	DefaultWindowsAuth      = "onpremise"
	DefaultWindowsRenewDays = 60
	DefaultWindowsAppRU     = "ms-app://windows.immersivecontrolpanel"
	DefaultFaultStatus      = 200
	maxRenewDays            = 1000
)

// Policy is Auth in Windows' own word (MS-MDE2, AuthPolicy).
func (w Windows) Policy() string {
	if strings.EqualFold(w.Auth, "federated") {
		return "Federated"
	}
	return "OnPremise"
}

func (w *Windows) flags(f *pflag.FlagSet) {
	f.StringVar(&w.Auth, "windows-auth", DefaultWindowsAuth, "how PCs that can do both sign in: onpremise (Windows asks) or federated (a page of this server)")
	f.StringSliceVar(&w.AppRUs, "windows-app-ru", []string{DefaultWindowsAppRU}, "addresses of Windows that the sign-in page hands its token to; repeatable")
	f.IntVar(&w.RenewDays, "windows-renew-days", DefaultWindowsRenewDays, "how many days before its end a PC renews its certificate, 1 to 1000")
	f.BoolVar(&w.MessageSigning, "windows-message-signing", false, "let PCs sign each message, for a server behind a proxy that ends TLS")
	f.StringSliceVar(&w.CryptoProviders, "windows-crypto-provider", nil, "key storage providers that PCs are asked to make their key with, best first; default: Windows' choice")
	f.IntVar(&w.FaultStatus, "windows-fault-status", DefaultFaultStatus, "HTTP status of SOAP faults (unverified on hardware): 200 or 500")
	f.BoolVar(&w.LowerCaseFaults, "windows-lowercase-faults", false, "write the element names of SOAP faults in lower case, as Microsoft's pages print them (unverified on hardware)")
}

func (w Windows) check() (faults []error) {
	if w.Auth != "" && !strings.EqualFold(w.Auth, "onpremise") && !strings.EqualFold(w.Auth, "federated") {
		faults = append(faults, fmt.Errorf("windows-auth: %q; it is onpremise or federated", w.Auth))
	}
	if w.RenewDays < 1 || w.RenewDays > maxRenewDays {
		faults = append(faults, fmt.Errorf("windows-renew-days: %d; it is 1 to %d", w.RenewDays, maxRenewDays))
	}
	if w.FaultStatus != 0 && w.FaultStatus != 200 && w.FaultStatus != 500 {
		faults = append(faults, fmt.Errorf("windows-fault-status: %d; it is 200 or 500", w.FaultStatus))
	}
	for _, uri := range w.AppRUs {
		if !strings.HasPrefix(uri, "ms-app://") {
			faults = append(faults, fmt.Errorf("windows-app-ru: %q does not begin with ms-app://", uri))
		}
	}
	return faults
}
