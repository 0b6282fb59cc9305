-- What Debezium needs beyond the shop's own database (docker-compose.yml makes this user).
GRANT RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'techstore'@'%';
