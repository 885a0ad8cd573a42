package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

func (s *Service) registerObjects(h huma.API) {
	apply := operation("apply", http.MethodPost, "/apply", "Create or update objects, all or nothing")
	apply.MaxBodyBytes, apply.DefaultStatus = web.MaxAdmin, http.StatusOK
	handle(s, h, apply, s.apply)
	handle(s, h, operation("list-objects", http.MethodGet, "/objects", "List profiles and assignments as they were applied"), s.objects)
	handle(s, h, operation("delete-object", http.MethodDelete, "/objects", "Remove a profile, an assignment or a user without devices"), s.deleteObject)
	handle(s, h, operation("list-profiles", http.MethodGet, "/profiles", "List profiles with their assignments"), s.profiles)
}

func (s *Service) apply(ctx context.Context, in *struct{ Body api.ApplyRequest }) (*body[api.ApplyResponse], error) {
	objects, faults := profiles.DecodeObjects(in.Body.Objects)
	if len(faults) > 0 {
		return nil, s.refuseApply(ctx, faults)
	}
	known, err := s.known(ctx)
	if err != nil {
		return nil, err
	}
	faults, warnings := profiles.Check(objects, known)
	faults = append(faults, s.checkCustoms(objects)...)
	if len(faults) > 0 {
		return nil, s.refuseApply(ctx, faults)
	}
	entry := s.entry("objects.apply", strconv.Itoa(len(objects))+" objects", map[string]string{"objects": names(objects)})
	changes, err := s.Store.Apply(ctx, objects, in.Body.DryRun, s.Clock(), entry)
	if err != nil {
		return nil, err
	}
	if !in.Body.DryRun {
		s.Wake()
	}
	out := &body[api.ApplyResponse]{Body: api.ApplyResponse{Changes: []api.Change{}, Warnings: api.FaultErrors(warnings)}}
	for _, c := range changes {
		out.Body.Changes = append(out.Body.Changes, api.Change(c))
	}
	return out, nil
}

func (s *Service) refuseApply(ctx context.Context, faults profiles.Faults) error {
	s.refused(ctx, "objects.apply", "objects", strconv.Itoa(len(faults))+" faults, the first at "+faults[0].Path)
	return api.FaultsProblem(faults)
}

// checkCustoms looks into uploaded profiles, which waxctl did before: the server believes nobody.
func (s *Service) checkCustoms(objects []profiles.Object) profiles.Faults {
	var faults profiles.Faults
	for _, o := range objects {
		custom, ok := o.Spec.(*profiles.Custom)
		if !ok || len(custom.Content) == 0 {
			continue
		}
		if err := s.CheckCustom(custom.Content); err != nil {
			faults = append(faults, profiles.Fault{Path: string(o.Kind) + " " + o.Name + ": spec.content", Message: err.Error()})
		}
	}
	return faults
}

// known is what applied objects may refer to.
func (s *Service) known(ctx context.Context) (profiles.Known, error) {
	k := profiles.Known{Profiles: map[string]profiles.Kind{}, Purposes: map[string]profiles.Purpose{}, Users: map[string]bool{},
		Groups: map[string]bool{}, Devices: map[string]bool{}, UserAddresses: map[string]string{}}
	objects, err := s.Store.Objects(ctx)
	if err != nil {
		return k, err
	}
	for _, o := range objects {
		if !o.Kind.IsProfile() {
			continue
		}
		k.Profiles[o.Name] = o.Kind
		if imported, ok := o.Spec.(*profiles.PKCSImportedCertificate); ok {
			k.Purposes[o.Name] = imported.IntendedPurpose
		}
	}
	if err := s.knownAuthorities(ctx, &k); err != nil {
		return k, err
	}
	if err := s.eachUser(ctx, func(u model.User) error { addUser(&k, u); return nil }); err != nil {
		return k, err
	}
	return k, s.knownDevices(ctx, &k)
}

func addUser(k *profiles.Known, u model.User) {
	k.Users[u.UPN] = true
	for _, g := range u.Spec.Groups {
		k.Groups[g] = true
	}
	for _, a := range u.Spec.Addresses {
		k.UserAddresses[strings.ToLower(a)] = u.UPN
	}
}

// knownAuthorities leaves CAs unchecked until a connector said which there are: an admin may apply files first.
func (s *Service) knownAuthorities(ctx context.Context, k *profiles.Known) error {
	cas, err := s.Connectors.Authorities(ctx)
	ofConnector := func(ca link.CA) bool { return ca.Kind != link.KindPartner }
	if err != nil || !slices.ContainsFunc(cas, ofConnector) {
		return err
	}
	k.CertificateAuthorities = map[string]bool{}
	for _, ca := range cas {
		k.CertificateAuthorities[ca.Name] = true
	}
	return nil
}

func (s *Service) knownDevices(ctx context.Context, k *profiles.Known) error {
	for p := (Page{Limit: 1000}); ; {
		devices, err := s.Store.Devices(ctx, p)
		if err != nil {
			return err
		}
		for _, d := range devices {
			k.Devices[d.ID] = true
		}
		if len(devices) < p.Limit {
			return nil
		}
		p.After = deviceKey(devices[len(devices)-1])
	}
}

// names lists what was applied for the audit log, bounded.
func names(objects []profiles.Object) string {
	const most = 50
	var b strings.Builder
	for i, o := range objects {
		if i == most {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(o.Kind) + " " + o.Name)
	}
	return b.String()
}

func objectKey(o profiles.Object) string { return string(o.Kind) + "/" + o.Name }

// sorted brings objects into the order of their keys.
func sorted(objects []profiles.Object) []profiles.Object {
	slices.SortFunc(objects, func(a, b profiles.Object) int { return strings.Compare(objectKey(a), objectKey(b)) })
	return objects
}

func (s *Service) objects(ctx context.Context, in *pageInput) (*body[api.Page[profiles.Object]], error) {
	objects, err := s.Store.Objects(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(in, sorted(objects), objectKey, func(o profiles.Object) profiles.Object { return o }), nil
}

func (s *Service) profiles(ctx context.Context, in *pageInput) (*body[api.Page[api.Profile]], error) {
	objects, err := s.Store.Objects(ctx)
	if err != nil {
		return nil, err
	}
	assigned := assignments(objects)
	objects = slices.DeleteFunc(objects, func(o profiles.Object) bool { return !o.Kind.IsProfile() })
	return pageOfAll(in, sorted(objects), objectKey, func(o profiles.Object) api.Profile {
		return api.Profile{Object: o, Assignments: append([]string{}, assigned[o.Name]...)}
	}), nil
}

// assignments maps a profile to the assignments that name it.
func assignments(objects []profiles.Object) map[string][]string {
	out := map[string][]string{}
	for _, o := range objects {
		a, ok := o.Spec.(*profiles.Assignment)
		if !ok {
			continue
		}
		for _, p := range a.Profiles {
			out[p] = append(out[p], o.Name)
		}
	}
	return out
}

// beforeDelete is what has to be done first, in the order that leaves no key behind.
func beforeDelete(kind profiles.Kind) string {
	if kind == profiles.KindUser {
		return "first retire or wipe each of the user's devices, and when they have left, delete the user's escrow records"
	}
	return "remove the assignments and Email profiles that need it first"
}

type deleteInput struct {
	Kind string `query:"kind" required:"true"`
	Name string `query:"name" required:"true" minLength:"1" maxLength:"320"`
}

func (s *Service) deleteObject(ctx context.Context, in *deleteInput) (*struct{}, error) {
	kind := profiles.Kind(in.Kind)
	if !slices.Contains(profiles.Kinds(), kind) {
		return nil, refuse(http.StatusUnprocessableEntity, "query.kind", "%q is no kind of object", in.Kind)
	}
	err := s.Store.DeleteObject(ctx, kind, in.Name, s.Clock(), s.entry("objects.delete", in.Kind+" "+in.Name, nil))
	switch {
	case errors.Is(err, model.ErrNotFound):
		return nil, refuse(http.StatusNotFound, "", "there is no %s %q", in.Kind, in.Name)
	case errors.Is(err, model.ErrConflict):
		s.refused(ctx, "objects.delete", in.Kind+" "+in.Name, "still in use")
		return nil, refuse(http.StatusConflict, "", "%s %q is still in use: %s", in.Kind, in.Name, beforeDelete(kind))
	case err != nil:
		return nil, err
	}
	s.Wake()
	return nil, nil
}
