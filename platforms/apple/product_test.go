package apple_test

import (
	"testing"

	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
)

func TestPlatformOf(t *testing.T) {
	for product, want := range map[string]profiles.Platform{
		"iPhone15,2": profiles.IOS, "iPad13,1": profiles.IOS, "iPod9,1": profiles.IOS, "Mac14,2": profiles.MacOS, "MacBookPro17,1": profiles.MacOS,
		"iMac21,1": profiles.MacOS, "iMacPro1,1": profiles.MacOS, "Macmini9,1": profiles.MacOS, "VirtualMac2,1": profiles.MacOS,
		"": "", "AppleTV14,1": "", "RealityDevice14,1": "", "something new": ""} {
		if got := apple.PlatformOf(product); got != want {
			t.Errorf("%q: %q, want %q", product, got, want)
		}
	}
}
