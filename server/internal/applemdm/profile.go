package applemdm

import (
	"fmt"

	"github.com/waxseal/waxseal/platforms/apple"
)

// ProfileMaker returns the function for Config.Profile: the enrolment profile with the values that never change, and the
// challenge and enrolment of one download. sign wraps the bytes in a signature; nil leaves the profile unsigned.
func ProfileMaker(fixed apple.EnrollmentParams, sign func([]byte) ([]byte, error)) func(challenge, enrolmentID string) ([]byte, error) {
	return func(challenge, enrolmentID string) ([]byte, error) {
		p := fixed
		p.Challenge, p.EnrolmentID, p.CommonName = challenge, enrolmentID, enrolmentID
		profile, err := apple.EnrollmentProfile(p)
		if err != nil || sign == nil {
			return profile, err
		}
		signed, err := sign(profile)
		if err != nil {
			return nil, fmt.Errorf("signing the enrolment profile: %w", err)
		}
		return signed, nil
	}
}
