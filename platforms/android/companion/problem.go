package companion

// Codes of a Problem. StatusOf gives the HTTP status of each.
const (
	// CodeMalformed: the request cannot be read; Detail names the field.
	CodeMalformed = "malformed"
	// CodeTokenInvalid: the enrolment token is unknown, expired or used.
	CodeTokenInvalid = "token_invalid"
	// CodeCredentialInvalid: the bearer token of a device is unknown. The app does not enrol anew by itself.
	CodeCredentialInvalid = "credential_invalid"
	// CodeBlocked: the user or the device may not enrol.
	CodeBlocked = "blocked"
	// CodeItemGone: the item is not wanted any more; the app reads the state again.
	CodeItemGone = "item_gone"
	// CodeInstallIDTaken: the installation belongs to another user; an admin must let it go first.
	CodeInstallIDTaken = "install_id_taken"
	// CodeRevisionStale: the item has another revision by now; the app reads the state again.
	CodeRevisionStale = "revision_stale"
	// CodeEnvelopeExpired: the envelope was kept too long; the app asks once more.
	CodeEnvelopeExpired = "envelope_expired"
	// CodeEnded: the enrolment is over; the app removes what is left and forgets its credential.
	CodeEnded = "ended"
	// CodeTooLarge: the body is larger than MaxRequest.
	CodeTooLarge = "too_large"
	// CodeWrapKeyUnknown: the device has another wrap key by now; the app enrols with the one that it has.
	CodeWrapKeyUnknown = "wrap_key_unknown"
	// CodeCSRRefused: there is no certificate for the request; Detail says why. The app makes another key at the next attempt.
	CodeCSRRefused = "csr_refused"
	// CodeWaitingForConnector: the connector has not encrypted the key yet, or not issued the certificate; RetryAfterSeconds
	// says when to ask again.
	CodeWaitingForConnector = "waiting_for_connector"
	// CodeProtocolTooOld: the app must be updated.
	CodeProtocolTooOld = "protocol_too_old"
	// CodeTooMany: the device asks too often.
	CodeTooMany = "too_many_requests"
	// CodeInternal: a fault of the server.
	CodeInternal = "internal"
	// CodeUnavailable: the server cannot do it at the moment.
	CodeUnavailable = "unavailable"
)

// StatusOf is the HTTP status of a code (RFC 9110 section 15; 423 is RFC 4918, 426 says what to upgrade to in Upgrade);
// that of an unknown code is 500.
func StatusOf(code string) int {
	if status, ok := statuses()[code]; ok {
		return status
	}
	return 500
}

func statuses() map[string]int {
	return map[string]int{CodeMalformed: 400, CodeTokenInvalid: 401, CodeCredentialInvalid: 401, CodeBlocked: 403,
		CodeItemGone: 404, CodeInstallIDTaken: 409, CodeRevisionStale: 409, CodeEnvelopeExpired: 410, CodeEnded: 410,
		CodeTooLarge: 413, CodeWrapKeyUnknown: 422, CodeCSRRefused: 422, CodeWaitingForConnector: 423, CodeProtocolTooOld: 426,
		CodeTooMany: 429, CodeInternal: 500, CodeUnavailable: 503}
}
