DROP TABLE failed_requests;
