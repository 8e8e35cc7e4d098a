package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Church is a row of churches as a signup creates it.
type Church struct {
	Name        string
	Email       string // normalised; stored sealed
	EmailHash   string // its blind index; NULL once no admin of the church has the email
	TrialEndsAt time.Time
	CreatedAt   time.Time
}

const (
	insertChurch = `
		INSERT INTO churches (id, name, email, email_hash, subscription_status, trial_ends_at, signup_id, created_at, updated_at)
		SELECT @tenant_id, @name, @email, @email_hash, 'trial', @trial_ends_at, @signup_id, @created_at, @created_at` + permitted + `
		ON CONFLICT (id) DO NOTHING`
	ownerOfChurch = `SELECT signup_id FROM churches WHERE id = @tenant_id`
	deleteChurch  = `DELETE FROM churches WHERE id = @tenant_id AND signup_id = @signup_id`
)

// InsertChurch adds the church in trial. Idempotent for one owner.
// Errors: ErrEmailTaken, ErrUndone, ErrNotOwned.
func (r *Registry) InsertChurch(ctx context.Context, owner Owner, church Church) error {
	sealed, err := r.sealEmail("churches", owner, church.Email)
	if err != nil {
		return err
	}
	err = r.insert(ctx, owner, ownedRow{insertChurch, ownerOfChurch}, pgx.NamedArgs{
		"name": church.Name, "email": sealed, "email_hash": church.EmailHash,
		"trial_ends_at": church.TrialEndsAt, "created_at": church.CreatedAt,
	})
	if err != nil {
		return fmt.Errorf("insert church: %w", err)
	}
	return nil
}

// DeleteChurch removes owner's church. Idempotent.
func (r *Registry) DeleteChurch(ctx context.Context, owner Owner) error {
	if err := r.remove(ctx, owner, deleteChurch); err != nil {
		return fmt.Errorf("delete church: %w", err)
	}
	return nil
}
