package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"runtime"

	"github.com/gin-gonic/gin"
	"golang.org/x/crypto/bcrypt"

	"narthex/internal/registry"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

const (
	passwordCost = 10 // bcrypt
	minPassword  = 8  // bytes
	maxPassword  = 72 // bytes; bcrypt reads no further
)

// hasher hashes passwords, no more at once than there are processors: hashing is all that an attacker
// needs to keep them busy.
type hasher struct {
	turns chan struct{}
	decoy []byte // compared with where there is no hash, so that it costs as much
}

func newHasher() (*hasher, error) {
	h := &hasher{turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
	var err error
	if h.decoy, err = h.hash(context.Background(), rand.Text()); err != nil {
		return nil, fmt.Errorf("make decoy hash: %w", err)
	}
	return h, nil
}

// turn waits for one until ctx ends, and returns how to give it back. Errors: errBusy.
func (h *hasher) turn(ctx context.Context) (done func(), err error) {
	select {
	case h.turns <- struct{}{}:
		return func() { <-h.turns }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

// hash returns the bcrypt hash of a password of at most maxPassword bytes. Errors: errBusy.
func (h *hasher) hash(ctx context.Context, password string) ([]byte, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return bcrypt.GenerateFromPassword([]byte(password), passwordCost)
}

// matches reports whether a password is the one that was hashed; it always compares once. A hash that is
// empty, or of another cost, matches nothing: a church's database could make us hash for hours. Errors:
// errBusy.
func (h *hasher) matches(ctx context.Context, hash, password string) (bool, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	cost, err := bcrypt.Cost([]byte(hash))
	possible := err == nil && cost == passwordCost && len(password) <= maxPassword
	against := []byte(hash)
	if !possible {
		against = h.decoy
	}
	same := bcrypt.CompareHashAndPassword(against, []byte(password[:min(len(password), maxPassword)])) == nil
	return same && possible, nil
}

// checkPassword returns what is wrong with a new password, or "".
func checkPassword(password string) string {
	if len(password) < minPassword || len(password) > maxPassword {
		return fmt.Sprintf("must have %d to %d bytes", minPassword, maxPassword)
	}
	return CheckText(password, 1, maxPassword)
}

type passwordRequest struct {
	CurrentPassword string `json:"currentPassword"`
	NewPassword     string `json:"newPassword"`
}

// changePassword replaces the admin's password, and ends all their sessions but this one.
func (a *api) changePassword(c *gin.Context, tenant *tenantdb.Tenant, who tokens.Subject) error {
	var request passwordRequest
	if err := Decode(c, &request); err != nil {
		return err
	}
	var wrong Fields
	wrong.Check("currentPassword", CheckText(request.CurrentPassword, 1, 1000))
	wrong.Check("newPassword", checkPassword(request.NewPassword))
	if err := wrong.Err(); err != nil {
		return err
	}
	ctx := c.Request.Context()
	admin, err := tenant.Admin(ctx, who.AdminID)
	if err != nil {
		return err
	}
	if err := a.throttle(c, loginLimits, admin.Email); err != nil {
		return err
	}
	if same, err := a.hasher.matches(ctx, admin.PasswordHash, request.CurrentPassword); err != nil {
		return err
	} else if !same {
		refused := registry.Event{Kind: registry.EventLoginFailed, TenantID: tenant.ID, AdminID: who.AdminID}
		return errors.Join(errPassword, a.Registry.Audit(ctx, refused))
	}
	hash, err := a.hasher.hash(ctx, request.NewPassword)
	if err != nil {
		return err
	}
	err = a.Registry.ChangePassword(ctx, tenant.ID, who.AdminID, string(hash), who.SessionID, func() error {
		return tenant.SetPasswordHash(ctx, who.AdminID, admin.PasswordHash, string(hash))
	})
	if errors.Is(err, tenantdb.ErrNoAdmin) {
		return errPassword // another change was quicker
	}
	if err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
