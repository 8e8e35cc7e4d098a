package services

import (
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"narthex/httpapi"
	"narthex/internal/ids"
	"narthex/internal/tenantdb"
	"narthex/internal/tokens"
)

var onboardingRoutes = []httpapi.Route{
	{Method: http.MethodGet, Path: "/api/onboarding", Handle: readOnboarding},
	{Method: http.MethodPut, Path: "/api/onboarding/:task", Handle: setOnboardingTask},
}

// onboardingTasks are the tasks that guide a new church, in order.
var onboardingTasks = []string{"create_branch", "add_members", "send_message"}

type onboardingTask struct {
	TaskID      string     `json:"taskId"`
	Completed   bool       `json:"completed"`
	CompletedAt *time.Time `json:"completedAt"`
}

type onboarding struct {
	Tasks []onboardingTask `json:"tasks"`
}

type onboardingRequest struct {
	Completed bool `json:"completed"`
}

const (
	selectTasks = `SELECT task_id, completed, completed_at FROM onboarding_progress`
	upsertTask  = `
		INSERT INTO onboarding_progress AS p (id, task_id, completed, completed_at) VALUES ($1, $2, $3, CASE WHEN $3 THEN now() END)
		ON CONFLICT (task_id) DO UPDATE SET completed = $3, updated_at = now(),
			completed_at = CASE WHEN $3 THEN coalesce(p.completed_at, now()) END
		RETURNING task_id, completed, completed_at`
)

func readOnboarding(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	rows, err := tenantdb.All[onboardingTask](c.Request.Context(), tenant, selectTasks)
	if err != nil {
		return err
	}
	var progress onboarding
	for _, id := range onboardingTasks {
		task := onboardingTask{TaskID: id}
		if i := slices.IndexFunc(rows, func(row onboardingTask) bool { return row.TaskID == id }); i >= 0 {
			task = rows[i]
		}
		progress.Tasks = append(progress.Tasks, task)
	}
	c.JSON(http.StatusOK, progress)
	return nil
}

// setOnboardingTask marks a task as done or not done. Idempotent.
func setOnboardingTask(c *gin.Context, tenant *tenantdb.Tenant, _ tokens.Subject) error {
	if !slices.Contains(onboardingTasks, c.Param("task")) {
		return tenantdb.ErrNotFound
	}
	var request onboardingRequest
	if err := httpapi.Decode(c, &request); err != nil {
		return err
	}
	task, err := tenantdb.One[onboardingTask](c.Request.Context(), tenant, upsertTask, ids.New(), c.Param("task"), request.Completed)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, task)
	return nil
}
