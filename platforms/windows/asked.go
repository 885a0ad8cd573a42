package windows

import (
	"fmt"
	"strconv"
	"strings"
)

// AskedState is how far a PC has come with a certificate that it asks for itself.
type AskedState int

// The states. A PC enrols in its own time: that it took the nodes says nothing about the certificate (trap 11).
const (
	AskedNothing AskedState = iota // it has no such node
	AskedPending                   // it asks, or will
	AskedFailed                    // it has given up
	AskedDone                      // it has a certificate
)

// Asked is what the nodes of a request say.
type Asked struct {
	State AskedState
	// Thumbprint is the SHA-1 (upper case) of the certificate that the PC has.
	Thumbprint string
	// Detail says why it failed.
	Detail string
}

// AskedURIs are the nodes that ReadAsked reads.
func AskedURIs(identifier string) []string {
	return []string{identifier + "/Status", identifier + "/CertThumbprint", identifier + "/ErrorCode"}
}

// Values of a SCEP node's Status. Source: "ClientCertificateInstall CSP"; windows.md 3.2.
const (
	scepDone    = "1"
	scepPending = "2"
	scepFailed  = "16"
	scepUnknown = "32" // before it has begun
)

// ReadAsked reads the state of a request. values maps LocURIs to the values of the Gets that answered 200; what is missing
// was not found.
func ReadAsked(identifier string, values map[string]string) Asked {
	v := fold(values)
	get := func(leaf string) string { return bare(v[strings.ToLower(identifier+"/"+leaf)]) }
	print := strings.ToUpper(get("CertThumbprint"))
	switch status := get("Status"); status {
	case "":
		return Asked{State: AskedNothing}
	case scepPending, scepUnknown:
		return Asked{State: AskedPending}
	case scepDone:
		if print == "" {
			return Asked{State: AskedFailed, Detail: "the PC got a certificate and shows none: its key or its chain is gone, or it has expired"}
		}
		return Asked{State: AskedDone, Thumbprint: print}
	case scepFailed:
		return Asked{State: AskedFailed, Detail: "the PC got no certificate: " + enrolError(get("ErrorCode"))}
	default:
		return Asked{State: AskedFailed, Detail: fmt.Sprintf("the PC got no certificate: the status of its request is %q", clip(status))}
	}
}

func enrolError(code string) string {
	n, err := strconv.ParseInt(code, 0, 64)
	if err != nil {
		return "it does not say why; its event log does (DeviceManagement-Enterprise-Diagnostics-Provider/Admin)"
	}
	return EnrolMeaning(n)
}

// EnrolMeaning puts the ErrorCode of a SCEP request, an HRESULT, into words. Source: winerror.h, wininet.h.
func EnrolMeaning(code int64) string {
	hresult := uint32(code)
	number := fmt.Sprintf("0x%08X", hresult)
	if hresult>>16 == 0x8019 { // FACILITY_HTTP
		return fmt.Sprintf("the SCEP server answers HTTP %d (%s)", hresult&0xffff, number)
	}
	return enrolMeaning(hresult) + " (" + number + ")"
}

func enrolMeaning(hresult uint32) string {
	switch hresult {
	case 0x80072ee7:
		return "the name of the SCEP server cannot be resolved"
	case 0x80072efd:
		return "the SCEP server cannot be reached"
	case 0x80072ee2:
		return "the SCEP server does not answer in time"
	case 0x80072f8f, 0x80072f0d:
		return "the PC does not trust the TLS certificate of the SCEP server, or its clock is wrong"
	case 0x800b0109:
		return "the CA that the SCEP server names is not the one of CAThumbprint"
	case 0x80090029, 0x80090004:
		return "the key storage does not make such a key"
	case 0x8009000b, 0x80090016:
		return "the key is gone"
	case 0x800b0114, 0x80092023:
		return "the PC cannot read the subject or the names"
	case 0x80094014:
		return "the SCEP server refuses the request; its audit log says why"
	case 0x800705b4, 0x80070102:
		return "the SCEP server kept the PC waiting for too long"
	}
	return "the enrolment failed; the event log of the PC says why, and what the server refused is in its audit log"
}
