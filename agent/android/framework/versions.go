package framework

import (
	"fmt"
	"strings"
)

// Versions that are simulated.
const (
	MinSDK = 28
	MaxSDK = 37
)

// releases are the names of the versions, from MinSDK on.
func releases() []string {
	return []string{"9", "10", "11", "12", "12.1", "13", "14", "15", "16", "17"}
}

// SDKOf is the API level of a release such as 15 or 8.1; further parts of a number (16.0.1) do not count.
func SDKOf(release string) (int, error) {
	for i, known := range releases() {
		if release == known {
			return MinSDK + i, nil
		}
	}
	major, _, _ := strings.Cut(release, ".")
	for i, known := range releases() {
		if major == known {
			return MinSDK + i, nil
		}
	}
	return 0, fmt.Errorf("version %q of Android is not simulated; %s are", release, strings.Join(releases(), ", "))
}
