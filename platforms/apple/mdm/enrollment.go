package mdm

// sharedIPadUserID stands for "some user of this shared iPad"; the short name then tells which one.
const sharedIPadUserID = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"

// Enrollment holds the keys by which every message says which management channel it belongs to.
type Enrollment struct {
	// UDID names a device; absent in user enrollment.
	UDID string `plist:",omitempty"`
	// EnrollmentID names a device in user enrollment.
	EnrollmentID string `plist:",omitempty"`
	// UserID, UserShortName and UserLongName name a user of a Mac or of a shared iPad.
	UserID        string `plist:",omitempty"`
	UserShortName string `plist:",omitempty"`
	UserLongName  string `plist:",omitempty"`
	// EnrollmentUserID names the user of a user-enrolled Mac.
	EnrollmentUserID string `plist:",omitempty"`
}

// ID is the name of the channel: the device's, followed by ":" and the user's on a user channel. It is empty if the
// message names no device.
func (e Enrollment) ID() string {
	user := e.user()
	if e.DeviceID() == "" || user == "" {
		return e.DeviceID()
	}
	return e.DeviceID() + ":" + user
}

// DeviceID is the name of the device channel, also on a user channel.
func (e Enrollment) DeviceID() string {
	if e.UDID != "" {
		return e.UDID
	}
	return e.EnrollmentID
}

// IsUser tells whether the message came over a user channel.
func (e Enrollment) IsUser() bool { return e.user() != "" }

func (e Enrollment) user() string {
	switch {
	case e.UserID == sharedIPadUserID:
		return e.UserShortName
	case e.UserID != "":
		return e.UserID
	}
	return e.EnrollmentUserID
}
