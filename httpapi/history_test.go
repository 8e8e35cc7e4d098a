package httpapi_test

import (
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/proxy"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"narthex/internal/codec"
	"narthex/internal/signup"
)

// runs lists the visibility records of an email's signups, newest first.
func (s *stack) runs(email string) []*workflowpb.WorkflowExecutionInfo {
	s.t.Helper()
	hash, err := s.keys.EmailIndex(email)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := s.temporal.ListWorkflow(s.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: "default", Query: fmt.Sprintf("WorkflowId = '%s'", signup.WorkflowID(hash)),
	})
	if err != nil {
		s.t.Fatalf("list signups: %v", err)
	}
	return response.Executions
}

// history returns the events of one run; an empty run id means the newest of the workflow id.
func (s *stack) history(workflowID, runID string) *historypb.History {
	s.t.Helper()
	var history historypb.History
	events := s.temporal.GetWorkflowHistory(s.t.Context(), workflowID, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			s.t.Fatalf("read history: %v", err)
		}
		history.Events = append(history.Events, event)
	}
	return &history
}

// dump returns all that Temporal keeps of an email's signups, as it is on the wire.
func (s *stack) dump(email string) string {
	s.t.Helper()
	var dump strings.Builder
	var runs []*workflowpb.WorkflowExecutionInfo
	eventually(s.t, "the visibility record of the signup", func() bool { runs = s.runs(email); return len(runs) > 0 })
	for _, run := range runs {
		for _, message := range []proto.Message{run, s.history(run.Execution.WorkflowId, run.Execution.RunId)} {
			raw, err := proto.Marshal(message)
			if err != nil {
				s.t.Fatal(err)
			}
			dump.Write(raw)
		}
	}
	return dump.String()
}

// inputOf returns what the newest signup of an email was started with.
func (s *stack) inputOf(email string) signup.Input {
	s.t.Helper()
	hash, err := s.keys.EmailIndex(email)
	if err != nil {
		s.t.Fatal(err)
	}
	started := s.history(signup.WorkflowID(hash), "").Events[0].GetWorkflowExecutionStartedEventAttributes()
	var input signup.Input
	sealing := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codec.New(s.keys))
	if err := sealing.FromPayloads(started.Input, &input); err != nil {
		s.t.Fatalf("decode input: %v", err)
	}
	return input
}

// replay starts a signup anew with its own input, as an operator does, and expects it to succeed.
func (s *stack) replay(input signup.Input) {
	s.t.Helper()
	run, err := s.temporal.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{
		ID: signup.WorkflowID(input.EmailHash), TaskQueue: s.queue,
	}, signup.Workflow, input)
	if err == nil {
		err = run.Get(s.t.Context(), nil)
	}
	if err != nil {
		s.t.Fatalf("replay: %v", err)
	}
}

// opened returns a history with its payloads opened: one that any build can replay.
func (s *stack) opened(history *historypb.History) *historypb.History {
	s.t.Helper()
	clone := proto.Clone(history).(*historypb.History)
	err := proxy.VisitPayloads(s.t.Context(), clone, proxy.VisitPayloadsOptions{
		SkipSearchAttributes: true,
		Visitor: func(_ *proxy.VisitPayloadsContext, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
			return codec.New(s.keys).Decode(payloads)
		},
	})
	if err != nil {
		s.t.Fatalf("open history: %v", err)
	}
	return clone
}
