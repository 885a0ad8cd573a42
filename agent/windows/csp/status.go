package csp

import (
	"fmt"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// HRESULTs of the configuration manager (cfgmgr2err.h of the Windows SDK) and of Windows, which stand as originalerror
// beside a status.
const (
	errInvalidDataType      = 0x86000001
	errNodeNotFound         = 0x86000002
	errIllegalInAtomic      = 0x86000003
	errIllegalOutsideAtomic = 0x86000004
	errCommandNotAllowed    = 0x86000011
	errPropertyNotSupported = 0x86000013
	errForbiddenSegment     = 0x86000015
	errSecretData           = 0x86000017
	errXMLParse             = 0x86000018
	errAlreadyExists        = 0x800700B7
	errInvalidArgument      = 0x80070057
	errAccessDenied         = 0x80070005
	errDeviceNotAvailable   = 0x800710DF
	errUnspecified          = 0x80004005
)

// outcome is how a command ended. The zero value is success with the verb's usual status.
type outcome struct {
	code    int
	hresult uint32
	target  string // of the item that failed, when the command has several
}

func fail(code int, hresult uint32) outcome { return outcome{code: code, hresult: hresult} }

func (o outcome) failed() bool { return o.code >= 300 }

// notFound and notAllowed are what most rules come to.
func notFound() outcome   { return fail(syncml.StatusNotFound, errNodeNotFound) }
func notAllowed() outcome { return fail(syncml.StatusNotAllowed, errCommandNotAllowed) }

func (o outcome) originalError() string {
	if o.hresult == 0 {
		return ""
	}
	return fmt.Sprintf("0x%08X", o.hresult)
}

// status is the code that the PC answers with.
func (p *PC) status(verb syncml.Verb, o outcome) int {
	switch {
	case o.code != 0:
		return o.code
	case verb == syncml.Add:
		return or(p.cfg.Rules.Added, syncml.StatusOK)
	case verb == syncml.Exec:
		return or(p.cfg.Rules.Executed, syncml.StatusAccepted)
	}
	return syncml.StatusOK
}
