package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"narthex/internal/dev/testenv"
)

// newReleases starts a service's API, but no worker yet.
func newReleases(t *testing.T) *operated {
	t.Helper()
	o := &operated{t: t, variables: append(environment(t, sharedTemporal(t)), "SIGNUP_WAIT=2m")}
	wantPrinted(t, o.variables, "migrate")
	o.registry = connectToRegistry(t, o.variables)
	o.api = testenv.Start(t, o.variables, "narthex", "api")
	o.url = ready(o.api)
	return o
}

// of returns the variables of a release.
func (o *operated) of(release string) []string { return append(o.variables, "BUILD_ID="+release) }

// worker starts a worker of a release, and expects a line about the release.
func (o *operated) worker(release, want string) *testenv.Run {
	o.t.Helper()
	worker := testenv.Start(o.t, o.of(release), "narthex", "worker")
	worker.WaitFor(`"msg":"ready"`)
	if !strings.Contains(worker.Output(), want) {
		o.t.Errorf("the worker of release %s says\n%s\nwant %q in it", release, worker.Output(), want)
	}
	return worker
}

const (
	isCurrent = "The release is current"
	waits     = "Another release is current"
)

// wantSignupBy signs churches up until worker finishes one. It takes a moment until all of Temporal knows that a release
// has become current.
func (o *operated) wantSignupBy(worker *testenv.Run) {
	o.t.Helper()
	finished := func() int { return strings.Count(worker.Output(), "Saga ended") }
	before := finished()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
		if status, answer := post(o.t, o.url+"/api/auth/register", applicant()); status != http.StatusCreated {
			o.t.Fatalf("register: %d, %v; want 201", status, answer)
		}
		time.Sleep(200 * time.Millisecond) // until its log has been read
		if finished() > before {
			return
		}
	}
	o.t.Error("the worker finished no signup within three minutes")
}

// A stuck rollback continues on the new release's workers once the old one's are gone.
func TestNewReleaseTakesOverWhatIsInFlight(t *testing.T) {
	t.Parallel()
	o := newReleases(t)
	older := o.worker("1", isCurrent)
	letGo := o.held()
	answered := o.register(applicant())
	o.list("rolling_back") // CreateTenant has waited for too long, and DeleteTenant waits now
	newer := o.worker("2", isCurrent)
	older.Signal(syscall.SIGTERM)
	if status := older.Exit(); status != 0 || strings.Contains(older.Output(), "Saga ended") {
		t.Errorf("the older release's worker ended with status %d, want 0 and the signup still running", status)
	}
	letGo()
	if got := <-answered; got != "500 /problems/signup-rolled-back" {
		t.Errorf("the signup was answered with %s, want 500 signup-rolled-back", got)
	}
	newer.WaitFor("Saga ended")
	o.wantSignupBy(newer)
	wantOnlyActiveTenants(t, o.variables)
}

func TestOlderReleaseReturnsOnlyByPromotion(t *testing.T) {
	t.Parallel()
	o := newReleases(t)
	newer := o.worker("2", isCurrent)
	older := o.worker("1", waits)
	o.wantSignupBy(newer)
	o.url = ready(testenv.Start(t, o.of("0"), "narthex", "serve")) // what its API starts, its worker doesn't get
	o.wantSignupBy(newer)
	wantIn(t, wantPrinted(t, o.of("1"), "worker", "promote"), "Release 1 is current.")
	o.wantSignupBy(older)
	o.worker("2", waits) // a restart doesn't undo a promotion
	o.wantSignupBy(older)
	wantRefusal(t, "no worker of release 3 is running: start one with `narthex worker`", o.of("3"), "worker", "promote")
	o.wantSignupBy(o.worker("3", isCurrent))
}

// A signup that is waiting for a worker is not lost when the first release starts.
func TestFirstReleaseTakesWhatWaits(t *testing.T) {
	t.Parallel()
	o := newReleases(t)
	answered := o.register(applicant())
	o.api.WaitFor("signup started")
	worker := o.worker("1", isCurrent)
	if got := <-answered; got != "201 <nil>" {
		t.Errorf("the signup was answered with %s, want 201", got)
	}
	o.wantSignupBy(worker)
}

func TestBuildIDIsChecked(t *testing.T) {
	t.Parallel()
	wantIn(t, wantPrinted(t, []string{"BUILD_ID=v1.2.3"}, "version"), ", release v1.2.3")
	wantRefusal(t, "BUILD_ID is not a name of at most 100 letters", []string{"BUILD_ID=__unversioned__"}, "version")
}
