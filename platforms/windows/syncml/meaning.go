package syncml

// statusSizeMismatch ends a large object (windows.md section 2.5).
const statusSizeMismatch = 424

// Meaning says a status code in a short sentence, for people (windows.md section 2.4); empty for a code that is not known.
func Meaning(code int) string {
	if code < StatusBadRequest {
		return progress(code)
	}
	return failure(code)
}

func progress(code int) string {
	return map[int]string{
		StatusOK:            "done",
		StatusAdded:         "the item was added",
		StatusAccepted:      "accepted; the device carries it out later",
		StatusAuthenticated: "authenticated for the whole session",
		StatusChunkAccepted: "the piece was accepted; the device waits for the next one",
		StatusCancelled:     "cancelled; the device carries out no more commands in this session",
		StatusNotExecuted:   "not carried out, since another command of the group failed or the user cancelled",
		StatusRolledBack:    "undone, since another command of the group failed",
	}[code]
}

func failure(code int) string {
	return map[int]string{
		StatusBadRequest:         "the device could not read the command",
		StatusUnauthorized:       "the credentials are wrong",
		StatusForbidden:          "the device forbids it",
		StatusNotFound:           "the device has no such node",
		StatusNotAllowed:         "the node does not allow this command, or not in this scope",
		StatusUnsupportedFeature: "the device does not have this optional feature",
		StatusMissingCredentials: "credentials are missing",
		StatusUnsupportedFormat:  "the device does not take this type, format or value",
		StatusTooBig:             "the data is too big for the device",
		StatusExists:             "the node exists already",
		statusSizeMismatch:       "the object's size is not the announced one",
		StatusPermissionDenied:   "the node's access list denies it",
		StatusFailed:             "the command failed on the device",
		StatusAtomicFailed:       "the group failed as a whole, and what it had done is undone",
		StatusRollbackFailed:     "the group failed, and undoing it failed too: the device's state is unknown",
	}[code]
}
