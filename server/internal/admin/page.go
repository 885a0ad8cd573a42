package admin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/server/internal/model"
)

// pageInput is what every list takes.
type pageInput struct {
	After string `query:"after" maxLength:"1024" doc:"The next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (in *pageInput) page() Page { return Page{After: in.After, Limit: in.Limit} }

// pageOf gives a page the form of the wire. A full page has a next one, which may be empty.
func pageOf[M, A any](in *pageInput, items []M, key func(M) string, convert func(M) A) *body[api.Page[A]] {
	out := &body[api.Page[A]]{Body: api.Page[A]{Items: make([]A, 0, len(items))}}
	for _, item := range items {
		out.Body.Items = append(out.Body.Items, convert(item))
	}
	if len(items) == in.Limit {
		out.Body.Next = key(items[len(items)-1])
	}
	return out
}

// pageOfAll pages a list that is whole in memory and sorted by key.
func pageOfAll[M, A any](in *pageInput, items []M, key func(M) string, convert func(M) A) *body[api.Page[A]] {
	start := 0
	if in.After != "" {
		start, _ = slices.BinarySearchFunc(items, in.After, func(m M, after string) int {
			if key(m) <= after {
				return -1
			}
			return 1
		})
	}
	return pageOf(in, items[start:min(len(items), start+in.Limit)], key, convert)
}

// eachUser reads all users, page by page.
func (s *Service) eachUser(ctx context.Context, f func(model.User) error) error {
	for p := (Page{Limit: 1000}); ; {
		users, err := s.Store.Users(ctx, p)
		if err != nil {
			return err
		}
		for _, u := range users {
			if err := f(u); err != nil {
				return err
			}
		}
		if len(users) < p.Limit {
			return nil
		}
		p.After = userKey(users[len(users)-1])
	}
}

// upns names users by id, each read once for a request.
type upns struct {
	store Store
	known map[string]string
}

func (s *Service) upns() *upns { return &upns{store: s.Store, known: map[string]string{}} }

// load reads the users of a list before it is converted.
func (u *upns) load(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if _, ok := u.known[id]; ok || id == "" {
			continue
		}
		user, err := u.store.UserByID(ctx, id)
		if err != nil && !errors.Is(err, model.ErrNotFound) { // a deleted user's certificates stay for the record
			return err
		}
		u.known[id] = user.UPN
	}
	return nil
}

func (u *upns) of(id string) string { return u.known[id] }

// The keys by which the store's lists are ordered.
func userKey(u model.User) string               { return strings.ToLower(u.UPN) }
func deviceKey(d model.Device) string           { return d.ID }
func certificateKey(c model.Certificate) string { return c.SHA256 + "/" + c.UserID } // two users may have imported the same one
func recordKey(r model.EscrowRecord) string     { return r.Record.ID }
func jobKey(j model.Job) string                 { return j.ID }
func connectorKey(c model.Connector) string     { return c.ID }

func sortedConnectors(c []model.Connector) []model.Connector {
	slices.SortFunc(c, func(a, b model.Connector) int { return strings.Compare(a.ID, b.ID) })
	return c
}
