package queue

// RecordRejection queues a record of type [Rejection], for a protocol server
// that refused a command. It never blocks and is safe for concurrent use. At
// most half of [Options.RecordBuffer] may be Rejection records: a flood of
// refused commands does not keep mail out. What comes beyond that, or while the
// buffer is full, is counted in [Stats] and dropped.
func (s *Scheduler) RecordRejection(r Record) {
	r.Type = Rejection
	if r.NodeID == "" {
		r.NodeID = s.opts.NodeID
	}
	s.recorder.reject(r)
}

// reject is post for a Rejection record, if there is room for it.
func (r *recorder) reject(rec Record) {
	if r.rejections.Add(1) > r.limit/2 || r.full() {
		r.rejections.Add(-1)
		r.dropped.Add(1)
		return
	}
	r.enqueue(&r.lanes[rejectionLane], pending{record: &rec, rejection: true})
}
