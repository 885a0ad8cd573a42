// Package identity binds devices to users: enrolment links, SCEP challenges, device certificates and the enrolments that
// speak with them.
package identity

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Store is what identity needs of the database. Every method is one transaction, durable on return.
type Store interface {
	CreateLink(ctx context.Context, l model.Link, audit model.AuditEntry) error
	// LinkByToken finds a link by the hash of its token, spent and expired ones too; model.ErrNotFound.
	LinkByToken(ctx context.Context, tokenHash string) (model.Link, error)
	CreateChallenge(ctx context.Context, c model.Challenge) error
	// Redeem binds a challenge to the key of its first request and creates the identity job in the same transaction.
	// The same key again returns the stored challenge (with the answer, once there) and changes nothing. model.ErrNotFound: no such
	// challenge; model.ErrExpired: challenge or link too old; model.ErrSpent: another key, or the link was spent by another challenge.
	Redeem(ctx context.Context, challengeHash, keySHA256 string, job model.Job, now time.Time) (model.Challenge, error)
	// ChallengeByHash reads one.
	ChallengeByHash(ctx context.Context, hash string) (model.Challenge, error)
	// EnrolmentByCertificate finds the enrolment bound to a certificate, its renewed one included; model.ErrNotFound.
	EnrolmentByCertificate(ctx context.Context, certSHA256 string) (model.Enrolment, error)
	// Renew stores the challenge of a renewal, which has no link, and creates its identity job in the same transaction. A
	// challenge of that hash again returns the stored one and changes nothing. model.ErrConflict: the enrolment is not active.
	Renew(ctx context.Context, c model.Challenge, job model.Job) (model.Challenge, error)
	// Promote makes the renewed certificate the enrolment's, since the device uses it: the former one is superseded, and what
	// was rendered for it is rendered again. Another state than expected changes nothing.
	Promote(ctx context.Context, enrolmentID, certSHA256 string, now time.Time, audit model.AuditEntry) (model.Enrolment, error)
	// OpenUserChannel makes the user channel of the enrolment u.HolderID, or gives it new push values. model.ErrConflict: the
	// device channel is not active, or another user of the device has the channel.
	OpenUserChannel(ctx context.Context, u model.Enrolment, now time.Time, audit model.AuditEntry) (model.Enrolment, error)
	// UserChannel is the living one of a device channel; model.ErrNotFound.
	UserChannel(ctx context.Context, holderID string) (model.Enrolment, error)
	// EnrolmentByID reads one; model.ErrNotFound.
	EnrolmentByID(ctx context.Context, id string) (model.Enrolment, error)
	// SetCredential replaces the hash of the bearer credential.
	SetCredential(ctx context.Context, enrolmentID, hash string) error
	// OtherOwner tells whether a device of that platform and external id is another user's and has not left.
	OtherOwner(ctx context.Context, platform profiles.Platform, externalID, userID string) (bool, error)
	// Authenticate binds the enrolment bound.ID to the device that speaks, to the external id that it has in this enrolment
	// (bound.ExternalID), and notes bound.CertStore,
	// creating or reusing the device row (same user, platform and d.ExternalID); other enrolments of that device and channel end; a device of another user with the external id becomes
	// left (unconfirmed) and its issued certificates go by their RevokeOn unenroll. Documents, commands and inventory of the new
	// enrolment start empty. The same external id again only updates the device's facts. model.ErrConflict: the enrolment is bound to another external id.
	Authenticate(ctx context.Context, bound model.Enrolment, d model.Device, audit model.AuditEntry) (model.Enrolment, error)
	// TokenUpdate stores push values and makes the enrolment active and dirty; idempotent.
	TokenUpdate(ctx context.Context, enrolmentID string, token []byte, magic, topic string, mustReenroll bool, now time.Time) error
	// CheckOut ends the enrolment: device left with the given removal, issued certificates removed or, by RevokeOn, revoking with
	// a revoke job each, sealed issued keys deleted, payloads and open jobs dropped. Idempotent. A Removal that the device
	// already has (verified by its inventory while retiring) stays; a device in state retiring or wiping leaves by the event
	// retire or wipe, whatever event says.
	CheckOut(ctx context.Context, enrolmentID string, removal model.Removal, event string, now time.Time, audit model.AuditEntry) error
}
