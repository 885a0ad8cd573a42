package apple

import (
	"strings"

	"github.com/waxseal/waxseal/profiles"
)

// PlatformOf tells of which kind a device with a ProductName is, such as iPhone15,2, iPad13,1, Mac14,2, MacBookPro17,1,
// iMac21,1 or VirtualMac2,1 (Authenticate, apple.md section 2). Empty: the name says neither.
func PlatformOf(product string) profiles.Platform {
	for _, prefix := range []string{"iPhone", "iPad", "iPod"} {
		if strings.HasPrefix(product, prefix) {
			return profiles.IOS
		}
	}
	if strings.Contains(product, "Mac") {
		return profiles.MacOS
	}
	return ""
}

// DeviceName is what people call a device of a platform.
func DeviceName(p profiles.Platform) string {
	switch p {
	case profiles.IOS:
		return "iPhone or iPad"
	case profiles.MacOS:
		return "Mac"
	}
	return "device"
}
