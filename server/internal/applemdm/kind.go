package applemdm

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// otherKind says that a link is for another kind of device than the one that uses it, and which link is right; empty: it is
// not known to be. An enrolment of the wrong kind would be sent what the device cannot take, for ever.
func otherKind(link, device profiles.Platform, name string) string {
	if device == "" || device == link {
		return ""
	}
	article := map[profiles.Platform]string{profiles.IOS: "an ", profiles.MacOS: "a "}
	return fmt.Sprintf("the enrolment link is for %s%s, and this is %s (%s); make one with waxctl enroll link --platform %s",
		article[link], apple.DeviceName(link), article[device]+apple.DeviceName(device), name, device)
}

// refuseOtherKind refuses a download by a browser of the other kind, so that the link stays good for the right device. Only an
// iPhone, and an iPad that asks for mobile pages, tell what they are: to the web, an iPad is a Mac. Of the rest Authenticate tells.
func (e *Endpoint) refuseOtherKind(r *http.Request, l model.Link) error {
	for _, name := range []string{"iPhone", "iPad", "iPod"} {
		if !strings.Contains(r.UserAgent(), "("+name+";") {
			continue
		}
		if why := otherKind(l.Platform, profiles.IOS, name); why != "" {
			e.cfg.Refusals.Note(r.Context(), "unknown device", "link.open", l.ID, why, nil)
			return web.Errorf(http.StatusForbidden, "%s", why)
		}
	}
	return nil
}

// refuseOther refuses the first Authenticate of a device of the other kind. Its MDM payload is not installed yet, and with the
// refusal it never is. One that is bound already goes on: explain says what it is.
func (e *Endpoint) refuseOther(ctx context.Context, enr model.Enrolment, product string) error {
	if enr.ExternalID != "" {
		return nil
	}
	if why := otherKind(enr.Platform, apple.PlatformOf(product), cut(product)); why != "" {
		return e.refused(ctx, enr.ID, &identity.Refusal{Reason: why})
	}
	return nil
}
