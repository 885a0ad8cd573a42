// Package syncml reads and writes the messages that Windows' management client and its server exchange: OMA DM 1.2 with
// Microsoft's additions (windows.md section 2). It knows no CSP.
package syncml

// ContentType is the media type of every message in XML form.
const ContentType = "application/vnd.syncml.dm+xml"

// Verb is the element name of a command.
type Verb string

// The commands of OMA DM that Windows knows.
const (
	Add      Verb = "Add"
	Alert    Verb = "Alert"
	Atomic   Verb = "Atomic"
	Delete   Verb = "Delete"
	Exec     Verb = "Exec"
	Get      Verb = "Get"
	Replace  Verb = "Replace"
	Results  Verb = "Results"
	Sequence Verb = "Sequence"
	Status   Verb = "Status"
)

// Message is one SyncML message, in either direction.
type Message struct {
	// SessionID is opaque and echoed unchanged.
	SessionID string
	// MsgID counts from 1 within a session, for each direction.
	MsgID int
	// Target and Source are LocURIs; the device's is its DeviceID, the server's its URL.
	Target, Source string
	// MaxMsgSize is the largest message that the device takes, in bytes; 0: it did not say.
	MaxMsgSize int
	// Commands are the elements of SyncBody in their order, Status and Results among them.
	Commands []Command
	// Final says that the sender has nothing more for this package.
	Final bool
}

// Command is one element of SyncBody, Atomic or Sequence.
type Command struct {
	Verb Verb
	// ID is the CmdID; empty when the sender left it out, which the receiver answers with 400.
	ID string
	// MsgRef and CmdRef say which command of which message a Status or Results answers.
	MsgRef, CmdRef string
	// Cmd is the name of the command that a Status answers; SyncHdr for the header.
	Cmd string
	// TargetRef and SourceRef may stand in a Status or Results.
	TargetRef, SourceRef string
	// Data is the status code of a Status and the code of an Alert.
	Data string
	// OriginalError is the HRESULT that Windows puts on failed statuses ("0x86000002"); empty when there is none.
	OriginalError string
	Items         []Item
	// Commands are those inside an Atomic or a Sequence.
	Commands []Command
}

// Item is what a command is about.
type Item struct {
	// Target and Source are LocURIs.
	Target, Source string
	// Format and Type are the two fields of Meta: "chr", "int", "bool", "b64", "bin", "node", "null", "xml"; empty: absent.
	Format, Type string
	// Size is the size of the whole object when it comes in pieces.
	Size int
	Data string
	// MoreData says that another piece follows.
	MoreData bool
}

// Status codes of OMA DM 1.2 (windows.md section 2.4).
const (
	StatusOK                 = 200
	StatusAdded              = 201
	StatusAccepted           = 202
	StatusAuthenticated      = 212
	StatusChunkAccepted      = 213
	StatusCancelled          = 214
	StatusNotExecuted        = 215
	StatusRolledBack         = 216
	StatusBadRequest         = 400
	StatusUnauthorized       = 401
	StatusForbidden          = 403
	StatusNotFound           = 404
	StatusNotAllowed         = 405
	StatusUnsupportedFeature = 406
	StatusMissingCredentials = 407
	StatusUnsupportedFormat  = 415
	StatusTooBig             = 416
	StatusExists             = 418
	StatusPermissionDenied   = 425
	StatusFailed             = 500
	StatusAtomicFailed       = 507
	StatusRollbackFailed     = 516
)

// Codes of alerts.
const (
	AlertServerInitiated = "1200"
	AlertClientInitiated = "1201"
	AlertNextMessage     = "1222"
	AlertAbort           = "1223"
	AlertClientEvent     = "1224"
	AlertNoEndOfData     = "1225"
	AlertGeneric         = "1226"
)

// Types of alerts (Meta/Type).
const (
	TypeLoginStatus = "com.microsoft/MDM/LoginStatus"
	TypeSyncType    = "com.microsoft.mdm.synctype" // MS-MDM, SyncType alert
	TypeUnenroll    = "com.microsoft:mdm.unenrollment.userrequest"
	TypeSCEPResult  = "com.microsoft:mdm.SCEPcertinstall.result"
)
