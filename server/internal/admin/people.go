package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

const (
	defaultLinkLife = 72 * time.Hour
	maxLinkLife     = 30 * 24 * time.Hour
)

func (s *Service) registerPeople(h huma.API) {
	handle(s, h, operation("list-users", http.MethodGet, "/users", "List users"), s.users)
	handle(s, h, operation("get-user", http.MethodGet, "/users/{upn}", "Read one user"), s.user)
	handle(s, h, operation("list-groups", http.MethodGet, "/groups", "List groups, which are derived from users"), s.groups)
	create := operation("create-enrollment-link", http.MethodPost, "/enrollment-links", "Make an enrolment link, shown once")
	create.DefaultStatus = http.StatusCreated
	handle(s, h, create, s.createLink)
	handle(s, h, operation("list-audit", http.MethodGet, "/audit", "List the audit log, oldest first"), s.audit)
}

func userOf(u model.User) api.User {
	return api.User{ID: u.ID, UPN: u.UPN, DisplayName: u.Spec.DisplayName, Addresses: append([]string{}, u.Spec.Addresses...),
		FormerAddresses: u.Spec.FormerAddresses, Groups: u.Spec.Groups, SAMAccountName: u.Spec.SAMAccountName,
		OnPremisesDistinguishedName: u.Spec.OnPremisesDistinguishedName, OnPremisesSecurityIdentifier: u.Spec.OnPremisesSecurityIdentifier,
		Department: u.Spec.Department, CreatedAt: u.CreatedAt}
}

func (s *Service) users(ctx context.Context, in *pageInput) (*body[api.Page[api.User]], error) {
	users, err := s.Store.Users(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return pageOf(in, users, userKey, userOf), nil
}

func (s *Service) user(ctx context.Context, in *struct {
	UPN string `path:"upn"`
}) (*body[api.User], error) {
	u, err := s.userByUPN(ctx, http.StatusNotFound, "", in.UPN)
	if err != nil {
		return nil, err
	}
	return &body[api.User]{Body: userOf(u)}, nil
}

// userByUPN reads a user; one that is missing is a problem of that status and place.
func (s *Service) userByUPN(ctx context.Context, status int, location, upn string) (model.User, error) {
	u, err := s.Store.UserByUPN(ctx, upn)
	if errors.Is(err, model.ErrNotFound) {
		return u, refuse(status, location, "there is no user %q: apply a User with that name first", upn)
	}
	return u, err
}

func (s *Service) groups(ctx context.Context, in *pageInput) (*body[api.Page[api.Group]], error) {
	members := map[string][]string{}
	err := s.eachUser(ctx, func(u model.User) error {
		for _, g := range u.Spec.Groups {
			members[g] = append(members[g], u.UPN)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	groups := make([]api.Group, 0, len(members))
	for name, users := range members {
		groups = append(groups, api.Group{Name: name, Users: users})
	}
	slices.SortFunc(groups, func(a, b api.Group) int { return strings.Compare(a.Name, b.Name) })
	return pageOfAll(in, groups, func(g api.Group) string { return g.Name }, func(g api.Group) api.Group { return g }), nil
}

func (s *Service) createLink(ctx context.Context, in *struct{ Body api.LinkRequest }) (*body[api.Link], error) {
	platform, err := linkPlatform(in.Body.Platform)
	if err != nil {
		return nil, err
	}
	life, err := linkLife(in.Body.Expires)
	if err != nil {
		return nil, err
	}
	user, err := s.userByUPN(ctx, http.StatusUnprocessableEntity, "body.user", in.Body.User)
	if err != nil {
		return nil, err
	}
	link, err := s.Links.CreateLink(ctx, user, platform, life)
	if err != nil {
		return nil, err
	}
	out := &body[api.Link]{Body: link}
	if s.PushTopic == "" && (platform == profiles.IOS || platform == profiles.MacOS) {
		out.Body.Warnings = []api.Warning{noPush()}
	}
	return out, nil
}

func linkPlatform(p profiles.Platform) (profiles.Platform, error) {
	switch p {
	case "", profiles.IOS:
		return profiles.IOS, nil
	case profiles.MacOS, profiles.Windows, profiles.Android:
		return p, nil
	}
	return "", refuse(http.StatusUnprocessableEntity, "body.platform", "platform %q cannot be enrolled; use ios, macos, windows or android", p)
}

func linkLife(s string) (time.Duration, error) {
	if s == "" {
		return defaultLinkLife, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxLinkLife {
		return 0, refuse(http.StatusUnprocessableEntity, "body.expires", "%q: it is a duration such as 72h, at most 720h", s)
	}
	return d, nil
}

func noPush() api.Warning {
	return api.Warning{Reason: platforms.ReasonNoPushCertificate,
		Detail: "no APNs push certificate is set: clients that poll work, a real device is never woken, and one that enrols now must enrol again once a push certificate is set"}
}

func (s *Service) audit(ctx context.Context, in *pageInput) (*body[api.Page[api.AuditEntry]], error) {
	var after int64
	if in.After != "" {
		var err error
		if after, err = strconv.ParseInt(in.After, 10, 64); err != nil {
			return nil, refuse(http.StatusUnprocessableEntity, "query.after", "it is the id of an audit entry, a number")
		}
	}
	entries, err := s.Store.Audit(ctx, after, in.Limit)
	if err != nil {
		return nil, err
	}
	key := func(e model.AuditEntry) string { return strconv.FormatInt(e.ID, 10) }
	return pageOf(in, entries, key, func(e model.AuditEntry) api.AuditEntry { return api.AuditEntry(e) }), nil
}
