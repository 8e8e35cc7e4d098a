package localpg

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is a user that PostgreSQL runs as instead of root: it refuses to run as root.
type account struct {
	name     string
	uid, gid uint32
}

// shelter is where the data folder goes if the account cannot reach the requested place.
const shelter = "/var/tmp"

func (a *account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid}}
}

// canEnter asks the kernel whether the account can work in a folder.
func (a *account) canEnter(path string) bool {
	cmd := exec.Command("/bin/sh", "-c", ":")
	cmd.Dir, cmd.SysProcAttr = path, a.attributes()
	return cmd.Run() == nil
}

// giveAway gives the folder to an unprivileged account. If a parent folder bars the way, the server
// gets another folder.
func (f folder) giveAway(log func(string, ...any)) (folder, error) {
	owner, err := f.findOwner()
	if err != nil {
		return folder{}, err
	}
	f.owner = owner
	if err := f.chown(f.path); err != nil {
		return folder{}, err
	}
	if owner.canEnter(f.path) {
		return f, nil
	}
	wanted := f.path
	f.path, err = shelterOf(wanted)
	if err != nil {
		return folder{}, err
	}
	f.moved = true
	log("PostgreSQL keeps its data in %s: it runs as user %s, who cannot enter %s", f.path, owner.name, wanted)
	if err := os.Mkdir(f.path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return folder{}, fmt.Errorf("PostgreSQL's folder %s cannot be created: choose one other than %s", f.path, wanted)
	}
	uid, err := ownerOf(f.path)
	if err != nil || uid != 0 && uid != owner.uid {
		return folder{}, fmt.Errorf("%s is not a folder of user %s: remove it, or choose another than %s", f.path, owner.name, wanted)
	}
	return f, f.chown(f.path)
}

// shelterOf is the folder that stands in for wanted. A note in wanted names it, so removing wanted starts
// over.
func shelterOf(wanted string) (string, error) {
	note, prefix := filepath.Join(wanted, "moved-to"), filepath.Join(shelter, "narthex-pg-")
	content, err := os.ReadFile(note)
	name, ours := strings.CutPrefix(string(content), prefix)
	if err == nil && ours && !strings.ContainsAny(name, "/.") {
		return prefix + name, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s does not say where PostgreSQL's data is: move %s away to start over", note, wanted)
	}
	path := prefix + strings.ToLower(rand.Text())
	if err := os.WriteFile(note, []byte(path), 0o600); err != nil {
		return "", fmt.Errorf("PostgreSQL's folder %s cannot be written to: choose another", wanted)
	}
	return path, nil
}

// findOwner returns the account that already owns the data, or else postgres, or else nobody.
func (f folder) findOwner() (*account, error) {
	uid, err := ownerOf(f.data())
	if err == nil && uid != 0 {
		if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
			return newAccount(u)
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return newAccount(u)
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody: start as another user")
}

func newAccount(u *user.User) (*account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s has no numeric id: start as another user than root", u.Username)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s has no numeric group: start as another user than root", u.Username)
	}
	return &account{name: u.Username, uid: uint32(uid), gid: uint32(gid)}, nil
}

// chown gives a file in the folder to the folder's owner.
func (f folder) chown(path string) error {
	if f.owner == nil {
		return nil
	}
	if err := os.Chown(path, int(f.owner.uid), int(f.owner.gid)); err != nil {
		return fmt.Errorf("%s cannot be given to user %s: start as another user than root", path, f.owner.name)
	}
	return nil
}

// ownerOf returns the user id of a folder's owner. A link to a folder doesn't count as a folder.
func ownerOf(path string) (uint32, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return 0, fmt.Errorf("%s is not a folder", path)
	}
	return stat.Uid, nil
}
